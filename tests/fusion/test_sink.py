"""Last-token selection sinks through what treats tokens one by one, and no further."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fusion.graphs import graph_of, run, weight
from reference_models import Drawn, compiled, decoder, graph_of as graph_of_flow, step, tokens

from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.dtypes import f32, i32
from rlxflow.fusion.legalize import legalize
from rlxflow.fusion.sink import sink_last_token
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import State
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Value
from rlxflow.ir.verify import verify
from rlxflow.ops.activation import gelu
from rlxflow.ops.attention import attention, cached_attention
from rlxflow.ops.blocks import gated_mlp, matmul_bias_act, residual_rms_norm
from rlxflow.ops.cache import cache_append
from rlxflow.ops.elementwise import add, maximum, mul, sub
from rlxflow.ops.leaves import full, input_, state
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm, rms_norm, softmax
from rlxflow.ops.shape import reshape, select_token
from rlxflow.profile.model import CompileProfile

ROW_WISE: dict[str, Callable[[Value], Value]] = {
    "linear": lambda x: linear(x, weight("w", 16, 8)),
    "block": lambda x: matmul_bias_act(x, weight("w", 16, 8), weight("b", 16), activation="gelu"),
    "norm": lambda x: layer_norm(x, weight("w", 8), weight("b", 8), eps=1e-5),
    "residual": lambda x: add(x, linear(gelu(x), weight("w", 8, 8))),
    "mlp": lambda x: gated_mlp(x, weight("g", 16, 8), weight("u", 16, 8), weight("d", 8, 16)),
    "reshape": lambda x: reshape(rms_norm(x, weight("n", 8), eps=1e-6), shape=("B", "S", 2, 4)),
    "two results": lambda x: add(*residual_rms_norm(x, gelu(x), weight("n", 8), eps=1e-6)),
    "scalar": lambda x: mul(x, full(value=0.5, dtype=f32, shape=())),
}


@pytest.mark.parametrize("name", ROW_WISE)
def test_sinks_to_the_input(name: str) -> None:
    graph = graph_of(lambda x, i: select_token(ROW_WISE[name](x), i))
    sunk = verify(sink_last_token(graph, []))
    (select,) = (n for n in sunk.nodes if n.op is select_token)
    assert select.inputs[0] is sunk.inputs["x"]
    assert sunk.outputs["y"].type == graph.outputs["y"].type
    assert np.allclose(run(sunk)["y"], run(graph)["y"], rtol=1e-6, atol=1e-6)
    assert sink_last_token(sunk, []).digest == sunk.digest


def heads(x: Value) -> Value:
    q = reshape(x, shape=("B", "S", 2, 4))
    return reshape(attention(q, q, q, scale=0.5, causal=True), shape=("B", "S", 8))


def test_stops_at_attention() -> None:
    graph = graph_of(
        lambda x, i: select_token(linear(heads(linear(x, weight("a", 8, 8))), weight("o", 8, 8)), i)
    )
    sunk = verify(sink_last_token(graph, []))
    (select,) = (n for n in sunk.nodes if n.op is select_token)
    assert select.inputs[0].node.op is attention
    assert np.allclose(run(sunk)["y"], run(graph)["y"], rtol=1e-6, atol=1e-6)


STAYS: dict[str, Callable[[Value, Value], object]] = {
    "tokens mix": lambda x, i: select_token(heads(x), i),
    "softmax over tokens": lambda x, i: select_token(softmax(x, axis=1), i),
    "one output": lambda x, i: add(select_token(gelu(x), i), select_token(heads(gelu(x)), i)),
    "two indices": lambda x, i: {"y": select_token(gelu(x), i), "z": select_token(gelu(x), maximum(i, i))},
    "per-position operand": lambda x, i: select_token(
        add(x, reshape(select_token(x, i), shape=("B", 1, 8))), i
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_stays(name: str) -> None:
    def make(x: Value, i: Value) -> object:
        return STAYS[name](x, i)

    graph = graph_of(make)  # type: ignore[arg-type]
    sunk = verify(sink_last_token(graph, []))
    before, after = run(graph), run(sunk)
    assert all(np.array_equal(before[k], after[k]) for k in before)
    kept = [n.op.name for n in graph.nodes if n.op is not select_token]
    if name not in ("tokens mix", "one output"):  # there the reshape behind the attention moves
        assert kept == [n.op.name for n in sunk.nodes if n.op is not select_token]


TWICE: dict[str, Callable[[Value, Value], dict[str, Value]]] = {
    "tapped": lambda x, i: {"y": select_token(gelu(x), i), "all": gelu(x)},
    "read twice": lambda x, i: {"y": select_token(gelu(x), i), "z": heads(gelu(x))},
}


@pytest.mark.parametrize("name", TWICE)
def test_other_outputs_that_need_all_tokens_are_no_hindrance(name: str) -> None:
    def make(x: Value, i: Value) -> dict[str, Value]:
        return TWICE[name](x, i)

    graph = graph_of(make)
    sunk = verify(sink_last_token(graph, []))
    assert [n.op.name for n in sunk.select(["y"]).nodes] == ["input", "input", "select_token", "gelu"]
    before, after = run(graph), run(sunk)
    assert all(np.allclose(before[k], after[k], rtol=1e-6, atol=1e-6) for k in before)


def test_the_last_layer_attends_for_the_last_token() -> None:
    """Its query alone, over the keys of all tokens; whoever wants all logits gets them."""
    flow = decoder(2, qk_norm=True, head_dim=8, qkv_bias=True)
    graph, backend = graph_of_flow(flow), ReferenceBackend()
    sunk = verify(sink_last_token(legalize(graph, backend.claims), []))
    assert sink_last_token(sunk, []).digest == sunk.digest
    last = sunk.select(["last_logits"])
    assert [n.inputs[0].rank for n in last.nodes if n.op is cached_attention] == [4, 3]
    alone = [n for n in last.nodes if n.op is linear and n.outputs[0].rank == 2]
    assert len(alone) == 6  # q, the attention's output, the feed-forward's three and the head
    assert last.count("linear") == 7 + 2 + len(alone)
    models = compiled(flow), backend.compile(sunk, Drawn(graph), CompileProfile())  # type: ignore[arg-type]
    states, ids = [m.new_state(3, 12) for m in models], tokens([7, 7, 7])[0]
    for past, new in (([0, 0, 0], [7, 0, 4]), ([7, 0, 4], [1, 3, 5])):
        want, got = (step(m, s, ids, past, new) for m, s in zip(models, states, strict=True))
        assert all(np.allclose(want[k], got[k], rtol=1e-5, atol=1e-6) for k in want)


@pytest.mark.parametrize(("of", "back", "rank"), [("new_len", 1, 3), ("new_len", 2, 4), ("past_len", 1, 4)])
def test_attends_alone_for_the_last_token_only(of: str, back: int, rank: int) -> None:
    builder = GraphBuilder()
    with emitting(builder):
        x = input_(key="x", dtype=f32, shape=("B", "S", 2, 4))
        lengths = {key: input_(key=key, dtype=i32, shape=("B",)) for key in ("past_len", "new_len")}
        before = state(key="k", dtype=f32, shape=("B", 2, "C", 4))
        after = cache_append(before, x, *lengths.values())
        y = cached_attention(x, after, after, *lengths.values(), scale=0.5)
        number, zero = (full(value=float(n), dtype=i32, shape=()) for n in (back, 0))
        y = select_token(y, maximum(sub(lengths[of], number), zero))
    graph = builder.finish("test", {"x": x, **lengths}, {"y": y}, (State("k", before, after),))
    sunk = verify(sink_last_token(verify(graph), []))
    assert [n.inputs[0].rank for n in sunk.nodes if n.op is cached_attention] == [rank]


def test_a_fixed_number_of_tokens_is_left_alone() -> None:
    """With sizes B = 4 and S = 8 a weight [4, 8] would look like tokens."""
    graph = graph_of(lambda x, i: select_token(gelu(x), i), (4, 8, 8))
    assert sink_last_token(graph, []) is graph
