"""Un-fusing: what a backend does not claim is replaced by its decomposition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlxflow.ir.builder import rebuild
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import Op
from rlxflow.ir.values import Node


def legalize(graph: Graph, claims: Callable[[Node], bool]) -> Graph:
    """The graph with every unclaimed op expanded, again and again, as far as ops decompose.

    Ops that are neither claimed nor decomposable stay; the backend names them when it compiles.
    """
    while True:
        expandable = {n.op for n in graph.nodes if n.op.decompose_fn is not None and not claims(n)}
        if not expandable:
            return graph

        def unclaimed(op: Op[..., Any], expandable: set[Op[..., Any]] = expandable) -> bool:
            return op in expandable

        graph = rebuild(graph, unclaimed)
