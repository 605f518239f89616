"""Weight-time expressions: what is split off, under which key, and that its value is the same."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from fusion.graphs import arrays_of, graph_of, run, weight

from rlxflow.dtypes import Array, bf16, f32, q8_0
from rlxflow.fusion.weight_time import WeightView, hoist
from rlxflow.ir.values import Value
from rlxflow.ir.verify import verify
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.leaves import full
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.shape import concat, slice_, transpose
from rlxflow.weights.source import MapWeights


def packed_qkv(x: Value, dtype: object = f32) -> Value:
    parts = [weight(k, n, 8, dtype=dtype) for k, n in (("q", 8), ("k", 4), ("v", 4))]  # type: ignore[arg-type]
    return linear(x, concat(*parts, axis=0))


@pytest.mark.parametrize("dtype", [f32, bf16], ids=str)
def test_concat_becomes_one_weight_of_the_stored_type(dtype: object) -> None:
    graph = graph_of(lambda x: packed_qkv(x, dtype))
    split = hoist(graph)
    verify(split.graph)
    ((key, expression),) = split.expressions.items()
    assert key.startswith("concat(q,k,v)#") and list(split.graph.params) == [key]
    assert split.graph.params[key].type == graph.outputs["y"].node.inputs[1].type
    arrays = arrays_of(graph)
    value = WeightView(MapWeights(arrays), split.expressions).read(key)
    expected = np.concatenate([arrays[k] for k in "qkv"])
    assert value.dtype == expected.dtype and value.tobytes() == expected.tobytes()
    assert list(expression.params) == ["q", "k", "v"]


def test_equal_expressions_of_two_graphs_have_one_key() -> None:
    one = hoist(graph_of(packed_qkv))
    two = hoist(graph_of(lambda x: add(packed_qkv(x), full(value=3.0, dtype=f32, shape=()))))
    other = hoist(graph_of(lambda x: linear(x, concat(weight("k", 4, 8), weight("q", 8, 8), axis=0))))
    assert one.expressions.keys() == two.expressions.keys()
    assert not one.expressions.keys() & other.expressions.keys()


def test_arithmetic_on_half_floats_runs_in_f32() -> None:
    graph = graph_of(
        lambda x: rms_norm(x, add(weight("w", 8, dtype=bf16), full(value=1.0, dtype=f32, shape=())), eps=1e-6)
    )
    split = hoist(graph)
    (key,) = split.expressions
    arrays = arrays_of(graph)
    value = WeightView(MapWeights(arrays), split.expressions).read(key)
    assert value.dtype == np.float32
    assert np.array_equal(value, arrays["w"].astype(np.float32) + 1)
    assert np.array_equal(run(split.graph, {key: value})["y"], run(graph, arrays)["y"])


def test_scaled_bf16_is_rounded_to_bf16() -> None:
    graph = graph_of(
        lambda x: linear(x, mul(weight("w", 4, 8, dtype=bf16), full(value=0.5, dtype=bf16, shape=())))
    )
    split = hoist(graph)
    (key,) = split.expressions
    arrays = arrays_of(graph)
    value = WeightView(MapWeights(arrays), split.expressions).read(key)
    assert value.dtype == ml_dtypes.bfloat16
    assert np.array_equal(value.astype(np.float32), arrays["w"].astype(np.float32) / 2)


def test_packed_rows_are_joined_and_cut_as_bytes() -> None:
    def make(x: Value) -> Value:
        joined = concat(weight("a", 3, 64, dtype=q8_0), weight("b", 5, 64, dtype=q8_0), axis=0)
        return linear(x, slice_(joined, axis=0, start=1, stop=7))

    graph = graph_of(make, ("B", "S", 64))
    split = hoist(graph)
    (key,) = split.expressions
    assert split.graph.params[key].dtype is q8_0 and split.graph.params[key].shape == (6, 64)
    rng = np.random.default_rng(0)
    rows = {"a": rng.integers(0, 256, (3, 68), np.uint8), "b": rng.integers(0, 256, (5, 68), np.uint8)}
    value = WeightView(MapWeights(rows), split.expressions).read(key)
    assert np.array_equal(value, np.concatenate([rows["a"], rows["b"]])[1:7])


def test_chains_and_shared_parts() -> None:
    def make(x: Value) -> Value:
        w = weight("w", 8, 8)
        turned = transpose(w, perm=(1, 0))
        return add(linear(x, turned), linear(x, add(turned, w)))

    graph = graph_of(make)
    split = hoist(graph)
    assert len(split.expressions) == 2 and split.graph.count("transpose") == 0
    arrays = arrays_of(graph)
    view = WeightView(MapWeights(arrays), split.expressions)
    values = {key: view.read(key) for key in split.graph.params}
    assert np.array_equal(run(split.graph, values)["y"], run(graph, arrays)["y"])


def test_nothing_to_do() -> None:
    graph = graph_of(lambda x: linear(x, weight("w", 4, 8)))
    assert hoist(graph).graph is graph
    split = hoist(graph_of(packed_qkv))
    assert hoist(split.graph).graph is split.graph


def test_constants_alone_are_not_weights() -> None:
    graph = graph_of(
        lambda x: add(x, add(full(value=1.0, dtype=f32, shape=()), full(value=2.0, dtype=f32, shape=())))
    )
    assert hoist(graph).graph is graph


def test_a_long_chain_is_no_recursion() -> None:
    def make(x: Value) -> Value:
        w = weight("w", 8)
        for _ in range(3000):
            w = mul(w, full(value=-1.0, dtype=f32, shape=()))
        return mul(x, w)

    graph = graph_of(make)
    split = hoist(graph)
    (key,) = split.expressions
    arrays: dict[str, Array] = arrays_of(graph)
    assert np.array_equal(WeightView(MapWeights(arrays), split.expressions).read(key), arrays["w"])
