"""From a built model to an executable: choose outputs, legalise for the backend, compile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rlxflow.backends.base import Executable, find_backend
from rlxflow.errors import InputError, nearest
from rlxflow.flow.built import BuiltModel
from rlxflow.fusion.legalize import legalize

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile


def compile_graph(
    built: BuiltModel, profile: str | CompileProfile | None = None, outputs: Iterable[str] | None = None
) -> Executable:
    """The executable of a built model for these outputs (all by default)."""
    from rlxflow.profile.load import load_profile

    settings = built.profile if profile is None else load_profile(profile)
    wanted = list(built.graph.outputs if outputs is None else outputs)
    for name in wanted:
        if name not in built.graph.outputs:
            hint = nearest(name, built.graph.outputs) or f"outputs: {', '.join(built.graph.outputs)}"
            raise InputError(f"no output {name!r}", code="RLX-R005", where=built.flow.name, hint=hint)
    built.plan.check_ties(built.source)
    backend = find_backend("reference")
    graph = legalize(built.graph.select(wanted), backend.claims)
    return backend.compile(graph, built.weights, settings)
