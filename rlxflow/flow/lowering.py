"""From a flow to its graph: one emission, used to check a flow and to build it."""

from __future__ import annotations

from collections.abc import Mapping

from rlxflow.dtypes import DType, f32
from rlxflow.flow.declared import declare
from rlxflow.flow.emit import Emit, Problem, run_all
from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.layer_stack import never_added
from rlxflow.ir.builder import GraphBuilder, never
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import Op, emitting
from rlxflow.ir.values import Type, Value
from rlxflow.ops.leaves import input_
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class Lowered:
    """The graph of a flow (None where there are problems), its problems, and the value after each stage."""

    graph: Graph | None
    problems: tuple[Problem, ...]
    trace: tuple[tuple[str, Value | None], ...]


def is_block(op: Op[..., object]) -> bool:
    """The ops that the `fusable` policy expands."""
    return op.level == "block"


def lower(
    flow: ModelFlow,
    weights: Mapping[str, tuple[str, Type] | None] | None = None,
    *,
    fusable: bool = False,
    kv_dtype: DType = f32,
) -> Lowered:
    """Emit every stage. Without `weights`, each declared weight is f32 of its declared shape."""
    declared = declare(flow)
    known = declared.types if weights is None else weights
    builder = GraphBuilder(is_block if fusable else never)
    with emitting(builder):
        inputs = {s.name: input_(key=s.name, dtype=s.dtype, shape=s.shape) for s in flow.inputs}
        e = Emit(builder, known, inputs, kv_dtype)
        e.problems += declared.problems
        x = next(iter(inputs.values()), None)
        if x is None:
            e.lost_value = True
            e.problems.append(
                Problem("RLX-F015", "the flow has no input", flow.name, "declare one with .input(...)")
            )
        x = run_all(e, flow.stages, x)
        e.problems += [never_added(path) for _, path in e.state.residuals]
        outputs = e.state.outputs or ({"output": x} if x is not None and flow.stages else {})
    if not outputs and not e.problems:
        e.problems.append(
            Problem("RLX-F016", "the flow has no output", flow.name, "add a stage, and .output(name)")
        )
    if e.problems:
        return Lowered(None, tuple(e.problems), tuple(e.trace))
    graph = builder.finish(flow.name, inputs, outputs, tuple(e.state.caches.values()))
    unused = _unused_end(graph, x, e.trace)
    return Lowered(None if unused else graph, unused, tuple(e.trace))


def _unused_end(graph: Graph, x: Value | None, trace: list[tuple[str, Value | None]]) -> tuple[Problem, ...]:
    """The last value must lead to an output: without one its stages would be dropped in silence."""
    if x is None or not trace or x.node in set(graph.nodes):
        return ()
    hint = "add .output(name) after it, or drop the stages after the last output"
    return (Problem("RLX-F028", "nothing uses the value of this stage", trace[-1][0], hint),)
