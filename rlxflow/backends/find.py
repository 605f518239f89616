"""Finding a backend by its name."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from rlxflow.backends.base import Backend
from rlxflow.errors import BackendError, PluginError, nearest

BUILT_IN = {
    "auto": ("rlxflow.backends.auto", "AutoBackend"),
    "cpu": ("rlxflow.backends.cpu.backend", "CpuBackend"),  # imports LLVM
    "reference": ("rlxflow.backends.reference.backend", "ReferenceBackend"),
}


def find_backend(name: str) -> Backend:
    """A backend by name: built in, or an entry point of the group `rlxflow.backends`."""
    if name in BUILT_IN:
        module, made_by = BUILT_IN[name]
        found: Backend = getattr(import_module(module), made_by)()
        return found
    points = {p.name: p for p in entry_points(group="rlxflow.backends")}
    if name not in points:
        known = [*BUILT_IN, *points]
        hint = nearest(name, known) or f"known: {', '.join(known)}"
        raise BackendError(f"no backend {name!r}", code="RLX-B001", hint=hint)
    try:
        backend: Backend = points[name].load()()
    except Exception as error:
        raise PluginError(
            f"backend {name!r} does not load: {error}",
            code="RLX-X002",
            where=points[name].value,
            hint="reinstall it",
        ) from error
    return backend
