"""All rules on random graphs: numbers kept, undone by expanding, planted ops found, broken ones not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from fusion.rules.fusing import B, H, S, difference, expand, fused, graph_of, mask, p, run
from hypothesis import assume, event, given, settings, strategies as st

from rlxflow.dtypes import i64
from rlxflow.fusion.simplify import merge_equal, remove_no_ops
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Value
from rlxflow.ops import activation
from rlxflow.ops.attention import attention
from rlxflow.ops.blocks import gated_mlp, matmul_bias_act, residual_layer_norm, residual_rms_norm
from rlxflow.ops.elementwise import add, maximum, minimum, mul, neg, tanh
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm, rms_norm
from rlxflow.ops.rope import rope
from rlxflow.ops.shape import gather, reshape

Plant = Callable[[str, Value], Value]
ACTIVATIONS = (activation.gelu, activation.gelu_tanh, activation.silu, activation.relu2, tanh)


def project(k: str, name: str, v: Value) -> Value:
    return matmul_bias_act(v, p(f"{k}{name}", H, H), p(f"{k}{name}_b", H))


def heads(v: Value) -> Value:
    return reshape(v, shape=(B, S, 2, 4))


def plant_linear(k: str, v: Value) -> Value:
    return matmul_bias_act(v, p(f"{k}w", H, H), p(f"{k}b", H), activation="gelu")


def plant_mlp(k: str, v: Value) -> Value:
    return gated_mlp(v, p(f"{k}gate", 5, H), p(f"{k}up", 5, H), p(f"{k}down", H, 5), activation="silu")


def plant_gate_up(k: str, v: Value) -> Value:
    gate = matmul_bias_act(v, p(f"{k}gate", H, H), p(f"{k}gb", H), activation="gelu_tanh")
    return mul(gate, matmul_bias_act(v, p(f"{k}up", H, H), p(f"{k}ub", H)))


def plant_layer_norm(k: str, v: Value) -> Value:
    return residual_layer_norm(neg(v), v, p(f"{k}g", H), p(f"{k}b", H), eps=1e-5)


def plant_rms_norm(k: str, v: Value) -> Value:
    total, normed = residual_rms_norm(neg(v), v, p(f"{k}g", H), eps=1e-5)
    return add(total, normed)


def plant_attention(k: str, v: Value) -> Value:
    q, key, value = (heads(project(k, n, v)) for n in "qkv")
    return project(k, "out", reshape(attention(q, key, value, mask(), scale=0.5), shape=(B, S, H)))


def plant_rotated(k: str, v: Value) -> Value:
    tables = p("cos", B, S, 2), p("sin", B, S, 2)
    q, key = (
        rope(rms_norm(heads(linear(v, p(f"{k}{n}", H, H))), p(f"{k}{n}n", 4), eps=1e-6), *tables)
        for n in "qk"
    )
    context = attention(q, key, heads(tanh(v)), causal=True, scale=0.5)
    return reshape(context, shape=(B, S, H))


def plant_layer(k: str, v: Value) -> Value:
    h = residual_layer_norm(plant_attention(k, v), v, p(f"{k}g1", H), p(f"{k}b1", H), eps=1e-12)
    inner = matmul_bias_act(h, p(f"{k}fc1", 12, H), p(f"{k}fc1b", 12), activation="relu")
    out = matmul_bias_act(inner, p(f"{k}fc2", H, 12), p(f"{k}fc2b", H))
    return residual_layer_norm(out, h, p(f"{k}g2", H), p(f"{k}b2", H), eps=1e-12)


def plant_embedding(k: str, v: Value) -> Value:
    looked_up = add(
        gather(p(f"{k}words", 9, H), p("ids", B, S, dtype=i64)),
        gather(p(f"{k}t", 4, H), p("types", B, S, dtype=i64)),
    )
    return add(v, layer_norm(looked_up, p(f"{k}g", H), eps=1e-5))


PLANTS: dict[str, Plant] = {
    "matmul_bias_act": plant_linear,
    "gated_mlp": plant_mlp,
    "fused_gate_up": plant_gate_up,
    "residual_layer_norm": plant_layer_norm,
    "residual_rms_norm": plant_rms_norm,
    "attention_block": plant_attention,
    "qk_norm_rope": plant_rotated,
    "fused_transformer_layer": plant_layer,
    "embedding_norm": plant_embedding,
}


@dataclass
class Planted:
    """A graph with an op planted in it, and the same with one value of the plant read from outside."""

    op: str
    graph: Graph
    broken: Graph
    inner: Value

    def found(self) -> bool:
        """Whether the planted op is there, with weights that only the plant has."""
        result, _ = fused(self.graph)
        return any(n.op.name == self.op and any(map(_own, n.inputs)) for n in result.nodes)

    def swallowed(self, graph: Graph) -> bool:
        """Whether a rewrite does away with the inner value."""
        matches = [m for r in fused(graph)[1].values() for m in r.matches]
        return any(self.inner.node in m.nodes and self.inner not in m.outputs for m in matches)


def _own(value: Value) -> bool:
    leaves = value.node.inputs if value.node.op.name == "concat" else (value,)
    return all(str(v.node.attrs.get("key", "")).startswith("plant.") for v in leaves)


def grow(draw: st.DrawFn, values: list[Value], steps: int) -> None:
    """Add random nodes over [B, S, H] to `values`; weights come from a small pool, so some are tied."""

    def pick() -> Value:
        return values[draw(st.integers(0, len(values) - 1))]

    def weight(*shape: int) -> Value:
        return p(f"pool{draw(st.integers(0, 2))}{len(shape)}", *shape)

    for _ in range(steps):
        kind = draw(st.integers(0, 9))
        if kind == 0:
            values.append(add(pick(), pick()))
        elif kind == 1:
            values.append(mul(pick(), tanh(pick())))
        elif kind == 2:
            values.append(linear(pick(), weight(H, H)))
        elif kind == 3:
            values.append(add(linear(pick(), weight(H, H)), weight(H)))
        elif kind == 4:
            values.append(draw(st.sampled_from(ACTIVATIONS))(pick()))
        elif kind == 5:
            values.append(layer_norm(add(pick(), pick()), weight(H), eps=1e-2))
        elif kind == 6:
            total = add(pick(), pick())
            values += [total, rms_norm(total, weight(H), eps=1e-2)]
        elif kind == 7:
            gate, up = linear(pick(), weight(H, H)), linear(pick(), weight(H, H))
            values.append(mul(draw(st.sampled_from(ACTIVATIONS))(gate), up))
        elif kind == 8:
            q, k, v = (heads(linear(pick(), weight(H, H))) for _ in range(3))
            values.append(reshape(attention(q, k, v, scale=0.5), shape=(B, S, H)))
        else:
            values.append(maximum(pick(), weight(H)))


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """Planted ops among random ones; any value may be an output."""

    def make() -> tuple[Value, ...]:
        values = [tanh(p("x", B, S, H))]
        for i in range(draw(st.integers(1, 3))):
            grow(draw, values, draw(st.integers(0, 6)))
            plant = draw(st.sampled_from(list(PLANTS.values())))
            values.append(plant(f"plant{i}.", values[draw(st.integers(0, len(values) - 1))]))
        taps = draw(st.lists(st.integers(0, len(values) - 1), max_size=3))
        return tuple(dict.fromkeys([values[-1], *(values[i] for i in taps)]))

    return merge_equal(expand(graph_of(make)), [])  # as the pipeline does: one node for a + b and b + a


@given(random_graphs())
@settings(max_examples=150, deadline=None)
def test_numbers_stay_and_expanding_undoes(graph: Graph) -> None:
    result, _ = fused(graph)
    again, _ = fused(result)
    assert again.digest == result.digest
    assert remove_no_ops(expand(result), []).digest == remove_no_ops(graph, []).digest
    assert difference(run(result, np.float64), run(graph, np.float64)) <= 1e-10


@st.composite
def planted(draw: st.DrawFn) -> Planted:
    name = draw(st.sampled_from(list(PLANTS)))
    builder = GraphBuilder(lambda op: op.decompose_fn is not None)
    with emitting(builder):
        values = [tanh(p("x", B, S, H))]
        grow(draw, values, draw(st.integers(0, 5)))
        # no pattern has a minimum, so no larger op reaches into the plant
        source = minimum(values[draw(st.integers(0, len(values) - 1))], p("cap", H))
        y = PLANTS[name]("plant.", source)
        after = [y]
        grow(draw, after, draw(st.integers(0, 4)))
        outputs = {"y": y, "end": after[-1]}
        graph = builder.finish("planted", {}, outputs)
        inner = draw(st.sampled_from(between(source, y)))
        tap = neg(inner) if draw(st.booleans()) else inner
        return Planted(name, graph, builder.finish("planted", {}, {**outputs, "tap": tap}), inner)


def between(source: Value, y: Value) -> list[Value]:
    """The values that lead to y and are not older than the source."""
    found: dict[Value, None] = {}
    stack = list(y.node.inputs)
    while stack:
        value = stack.pop()
        if value is not source and value.node.inputs and value not in found:
            found[value] = None
            stack += value.node.inputs
    return list(found)


@given(planted())
@settings(max_examples=100, deadline=None)
def test_planted_ops_are_found(case: Planted) -> None:
    event(case.op)
    assert case.found(), str(case.graph)


@given(planted())
@settings(max_examples=150, deadline=None)
def test_broken_ones_are_left_alone(case: Planted) -> None:
    """Another reader, or an output, of a value that a rewrite would do away with."""
    assume(case.swallowed(case.graph))
    event(case.op)
    assert not case.swallowed(case.broken), str(case.broken)
    assert difference(run(fused(case.broken)[0], np.float64), run(case.broken, np.float64)) <= 1e-10
