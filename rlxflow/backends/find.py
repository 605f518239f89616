"""Finding a backend by its name."""

from __future__ import annotations

from importlib.metadata import entry_points

from rlxflow.backends.base import Backend
from rlxflow.errors import BackendError, PluginError, nearest


def find_backend(name: str) -> Backend:
    """A backend by name: built in, or an entry point of the group `rlxflow.backends`."""
    from rlxflow.backends.auto import AutoBackend
    from rlxflow.backends.reference.backend import ReferenceBackend

    if name == ReferenceBackend.name:
        return ReferenceBackend()
    if name == AutoBackend.name:
        return AutoBackend()
    if name == "cpu":  # imports LLVM
        from rlxflow.backends.cpu.backend import CpuBackend

        return CpuBackend()
    points = {p.name: p for p in entry_points(group="rlxflow.backends")}
    if name not in points:
        known = [AutoBackend.name, ReferenceBackend.name, "cpu", *points]
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
