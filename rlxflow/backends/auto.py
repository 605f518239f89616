"""The backend `auto`: the compiled CPU backend where that runs the whole graph, else the reference."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rlxflow.backends.base import Backend, Executable, MemoryUse
from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.errors import BackendError
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import Op
from rlxflow.ir.values import Node
from rlxflow.weights.source import Weights

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile

NOT_RUN = "RLX-B003"  # what a backend raises for a graph that it does not run


class AutoBackend:
    """Decides per graph. Graphs are expanded to what both backends run."""

    name = "auto"

    def __init__(self) -> None:
        self._reference = ReferenceBackend()
        self._cpu, self._why_not = _compiled()

    def runs(self, op: Op[..., Any]) -> bool:
        return (self._cpu or self._reference).runs(op)

    def claims(self, node: Node) -> bool:
        if self._cpu is None:
            return self._reference.claims(node)
        return self._cpu.claims(node) or (node.op.level == "primitive" and self._reference.claims(node))

    def choose(self, graph: Graph, profile: CompileProfile, tokens: int) -> tuple[Backend, str, MemoryUse]:
        """The backend that would run an expanded graph, why, and its `memory`; no weight is read.

        Planning is what tells whether the CPU backend runs a graph, and what it takes: it is done once.
        """
        why = self._why_not
        if self._cpu is not None:
            try:
                return self._cpu, "it runs the whole graph", self._cpu.memory(graph, profile, tokens)
            except BackendError as error:
                if error.code != NOT_RUN:
                    raise
                why = _reason(error)
        return self._reference, why, self._reference.memory(graph, profile, tokens)

    def memory(self, graph: Graph, profile: CompileProfile, tokens: int) -> MemoryUse:
        return self.choose(graph, profile, tokens)[2]

    def compile(self, graph: Graph, weights: Weights, profile: CompileProfile) -> Executable:
        """By the CPU backend; by the reference, with a line on stderr, where that refuses the graph."""
        if self._cpu is not None:
            try:
                return self._cpu.compile(graph, weights, profile)
            except BackendError as error:
                if error.code != NOT_RUN:
                    raise
                why = _reason(error)
        else:
            why = self._why_not
        if sys.stderr is not None:
            sys.stderr.write(f"{graph.name}: runs on the reference backend, which is slow: {why}\n")
        return self._reference.compile(graph, weights, profile)


def _compiled() -> tuple[Backend | None, str]:
    """The CPU backend, or why there is none here."""
    try:
        from rlxflow.backends.cpu.backend import CpuBackend
        from rlxflow.backends.cpu.llvm import host_target

        host_target()
    except (ImportError, OSError, RuntimeError, BackendError) as error:
        return None, f"llvmlite does not work here ({_reason(error)})"
    return CpuBackend(), ""


def _reason(error: Exception) -> str:
    """The first line of a message."""
    text = error.message if isinstance(error, BackendError) else str(error)
    return text.partition("\n")[0]
