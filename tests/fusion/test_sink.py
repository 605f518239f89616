"""Last-token selection sinks through what treats tokens one by one, and no further."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fusion.graphs import graph_of, run, weight

from rlxflow.dtypes import f32
from rlxflow.fusion.sink import sink_last_token
from rlxflow.ir.values import Value
from rlxflow.ir.verify import verify
from rlxflow.ops.activation import gelu
from rlxflow.ops.attention import attention
from rlxflow.ops.blocks import gated_mlp, matmul_bias_act, residual_rms_norm
from rlxflow.ops.elementwise import add, maximum, mul
from rlxflow.ops.leaves import full
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm, rms_norm, softmax
from rlxflow.ops.shape import reshape, select_token

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
    "tapped": lambda x, i: {"y": select_token(gelu(x), i), "all": gelu(x)},
    "read twice": lambda x, i: {"y": select_token(gelu(x), i), "z": heads(gelu(x))},
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
    if name != "tokens mix":  # there the reshape behind the attention moves
        assert kept == [n.op.name for n in sunk.nodes if n.op is not select_token]


def test_a_fixed_number_of_tokens_is_left_alone() -> None:
    """With sizes B = 4 and S = 8 a weight [4, 8] would look like tokens."""
    graph = graph_of(lambda x, i: select_token(gelu(x), i), (4, 8, 8))
    assert sink_last_token(graph, []) is graph
