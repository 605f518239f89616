"""Clean-up passes: what they remove, what they leave, and that no number changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fusion.graphs import arrays_of, graph_of, run, weight
from hypothesis import given, settings
from ir.graph_samples import SAMPLES, graphs

from rlxflow.dtypes import bf16, f16, f32, i32, q4_k
from rlxflow.fusion.folding import MAX_BYTES, fold_constants
from rlxflow.fusion.simplify import fold_scale, fold_unit_offset, merge_equal, remove_no_ops
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Value
from rlxflow.ir.verify import verify
from rlxflow.ops.elementwise import add, cast, div, mul, sub
from rlxflow.ops.leaves import constant, full, iota
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.shape import broadcast_to, concat, gather, reshape, slice_, transpose

PASSES = (remove_no_ops, fold_constants, merge_equal, fold_unit_offset, fold_scale)


def number(value: float, *shape: int) -> Value:
    return full(value=value, dtype=f32, shape=shape)


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.name not in ("input", "param")]


GONE: dict[str, Callable[[Value], Value]] = {
    "reshape to the same": lambda x: reshape(x, shape=("B", "S", 8)),
    "reshape there and back": lambda x: reshape(reshape(x, shape=("B", "S", 2, 4)), shape=("B", "S", 8)),
    "transpose by nothing": lambda x: transpose(x, perm=(0, 1, 2)),
    "transpose there and back": lambda x: transpose(transpose(x, perm=(1, 2, 0)), perm=(2, 0, 1)),
    "broadcast to the same": lambda x: broadcast_to(x, shape=("B", "S", 8)),
    "cast to the same": lambda x: cast(x, dtype=f32),
    "slice of everything": lambda x: slice_(x, axis=-1, start=0, stop=8),
    "concat of one": lambda x: concat(x, axis=1),
    "slice of concat": lambda x: slice_(concat(x, mul(x, x), axis=2), axis=-1, start=0, stop=8),
    "plus 0": lambda x: add(number(0.0), x),
    "minus 0": lambda x: sub(x, number(0.0)),
    "times 1": lambda x: mul(x, number(1.0, 8)),
    "over 1": lambda x: div(x, number(1.0)),
    "several": lambda x: mul(add(cast(reshape(x, shape=("B", "S", 8)), dtype=f32), number(0)), number(1)),
}

STAYS: dict[str, Callable[[Value], Value]] = {
    "0 minus x": lambda x: sub(number(0.0), x),
    "1 over x": lambda x: div(number(1.0), x),
    "plus 0 that broadcasts": lambda x: add(x, number(0.0, 5, 1, 1, 8)),
    "cast and back": lambda x: cast(cast(x, dtype=f16), dtype=f32),
    "slice through a part": lambda x: slice_(concat(x, mul(x, x), axis=2), axis=2, start=4, stop=12),
    "slice along another axis": lambda x: slice_(concat(x, x, axis=2), axis=1, start=0, stop=1),
    "times 2": lambda x: mul(x, number(2.0)),
}


@pytest.mark.parametrize("name", GONE)
def test_no_op_is_removed(name: str) -> None:
    graph = graph_of(GONE[name])
    assert graph.count("input") < len(graph.nodes)
    simpler = verify(remove_no_ops(graph, []))
    assert simpler.outputs["y"] is simpler.inputs["x"]
    assert np.array_equal(run(simpler)["y"], run(graph)["y"])


@pytest.mark.parametrize("name", STAYS)
def test_what_has_an_effect_stays(name: str) -> None:
    graph = graph_of(STAYS[name])
    assert remove_no_ops(graph, []) is graph


def test_slices_of_a_concat_share_its_parts() -> None:
    """q, k, v from one packed product, as exporters write it."""

    def make(x: Value) -> dict[str, Value]:
        parts = [linear(x, weight(k, n, 8)) for k, n in (("q", 8), ("k", 4), ("v", 4))]
        packed = concat(*parts, axis=-1)
        return {
            "q": slice_(packed, axis=-1, start=0, stop=8),
            "kv": slice_(packed, axis=2, start=8, stop=16),
            "cut": slice_(packed, axis=2, start=6, stop=9),
        }

    graph = graph_of(make)
    simpler = verify(remove_no_ops(graph, []))
    assert simpler.outputs["q"].node.op is linear
    assert simpler.outputs["kv"].node.op is concat and len(simpler.outputs["kv"].node.inputs) == 2
    assert simpler.outputs["cut"].node.op is slice_
    for name, array in run(graph).items():
        assert np.array_equal(run(simpler)[name], array)


def test_transposes_in_a_row_become_one() -> None:
    graph = graph_of(lambda x: transpose(transpose(x, perm=(1, 0, 2)), perm=(0, 2, 1)))
    simpler = remove_no_ops(graph, [])
    assert ops(simpler) == ["transpose"]
    assert np.array_equal(run(simpler)["y"], run(graph)["y"])


def test_constants_fold_into_one_full() -> None:
    graph = graph_of(lambda x: add(x, sub(mul(number(3.0), number(2.0)), number(5.0))))
    simpler = remove_no_ops(fold_constants(graph, []), [])
    assert ops(simpler) == ["full", "add"]
    assert np.array_equal(run(simpler)["y"], run(graph)["y"])


def test_constants_fold_into_an_array() -> None:
    def make(x: Value) -> Value:
        data = np.arange(4, dtype="<f4").tobytes()
        table = constant(data=data, dtype=f32, shape=(2, 2))
        flat = reshape(transpose(table, perm=(1, 0)), shape=(4,))
        ids = iota(size=8, dtype=i32)
        return mul(x, gather(concat(flat, flat, axis=0), ids))

    graph = graph_of(make)
    simpler = verify(fold_constants(graph, []))
    assert ops(simpler) == ["constant", "mul"]
    assert np.array_equal(run(simpler)["y"], run(graph)["y"])


@pytest.mark.parametrize(
    "make",
    [
        lambda x: add(x, reshape(iota(size="S", dtype=f32), shape=(1, "S", 1))),
        lambda x: mul(
            x, reshape(slice_(iota(size=MAX_BYTES, dtype=f32), axis=0, start=0, stop=8), shape=(8,))
        ),
        lambda x: mul(x, gather(number(1.0, 4), constant(data=b"\x09\0\0\0", dtype=i32, shape=(1,)))),
        lambda x: mul(x, weight("w", 8)),
    ],
    ids=["symbolic size", "too large", "an error at run time", "weights"],
)
def test_what_does_not_fold(make: Callable[[Value], Value]) -> None:
    graph = graph_of(make)
    assert fold_constants(graph, []) is graph


def test_a_huge_full_is_never_allocated() -> None:
    huge = 1 << 60
    graph = graph_of(
        lambda x: add(x, slice_(add(number(1.0, huge), number(2.0, huge)), axis=0, start=0, stop=8))
    )
    assert ops(fold_constants(graph, [])).count("add") == 2


def test_folding_keeps_special_numbers() -> None:
    def make(x: Value) -> dict[str, Value]:
        zero = number(0.0)
        nan = sub(div(number(1.0), zero), div(number(1.0), zero))
        return {
            "nan": mul(x, nan),
            "minus zero": mul(mul(number(-1.0), zero), reshape(x, shape=("B", "S", 8))),
        }

    graph = graph_of(make)
    folded = verify(fold_constants(graph, []))
    for name, array in run(graph).items():
        other = run(folded)[name]
        assert np.array_equal(array, other, equal_nan=True)
        assert np.array_equal(np.signbit(array), np.signbit(other)) or np.isnan(array).all()


def test_equal_sums_are_one() -> None:
    graph = graph_of(lambda x: mul(add(x, weight("w", 8)), add(weight("w", 8), x)))
    merged = verify(merge_equal(graph, []))
    assert graph.count("add") == 2 and merged.count("add") == 1
    assert np.array_equal(run(merged)["y"], run(graph)["y"])
    assert merge_equal(merged, []) is merged


@pytest.mark.parametrize("dtype", [f32, f16, bf16], ids=str)
def test_unit_offset_goes_into_the_weight(dtype: object) -> None:
    graph = graph_of(lambda x: rms_norm(x, weight("w", 8, dtype=dtype), eps=1e-6, unit_offset=True))  # type: ignore[arg-type]
    folded = verify(fold_unit_offset(graph, []))
    norm = folded.outputs["y"].node
    assert norm.attrs["unit_offset"] is False and norm.operands[1].node.op is add
    assert np.array_equal(run(folded)["y"], run(graph)["y"])
    assert fold_unit_offset(folded, []) is folded


def scaled(factor: float, dtype: object = f32) -> Callable[[Value], Value]:
    return lambda x: mul(number(factor), linear(x, weight("w", 4, 8, dtype=dtype)))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [f32, bf16], ids=str)
@pytest.mark.parametrize("factor", [0.125, -2.0])
def test_scale_goes_into_the_weight_where_exact(factor: float, dtype: object) -> None:
    graph = graph_of(scaled(factor, dtype))
    folded = verify(fold_scale(graph, []))
    assert folded.outputs["y"].node.op is linear
    weights = arrays_of(graph)
    assert np.array_equal(run(folded, weights)["y"], run(graph, weights)["y"])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (scaled(0.1), "scale 0.1 not folded: it is not a small power of two, and would round other numbers"),
        (scaled(2.0, f16), "scale 2 not folded: the weight is f16"),
        (scaled(2.0, q4_k), "scale 2 not folded: the weight is q4_k"),
        (
            lambda x: add(scaled(2.0)(x), linear(x, weight("w", 4, 8))),
            "scale 2 not folded: the product has other readers",
        ),
        (
            lambda x: add(scaled(2.0)(x), linear(add(x, x), weight("w", 4, 8))),
            "scale 2 not folded: the weight has other readers",
        ),
        (
            lambda x: mul(number(2.0, 5, 1, 1, 1), linear(x, weight("w", 4, 8))),
            "scale 2 not folded: it broadcasts the product",
        ),
    ],
)
def test_scale_stays_and_says_why(make: Callable[[Value], Value], reason: str) -> None:
    shape = ("B", "S", 256) if "q4_k" in reason else ("B", "S", 8)
    if "q4_k" in reason:
        graph = graph_of(lambda x: mul(number(2.0), linear(x, weight("w", 4, 256, dtype=q4_k))), shape)
    else:
        graph = graph_of(make, shape)
    notes: list[str] = []
    assert fold_scale(graph, notes) is graph
    assert notes == [reason]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("step", PASSES, ids=lambda f: f.__name__)
def test_samples_stay_valid_and_passes_are_idempotent(
    step: Callable[[Graph, list[str]], Graph], name: str
) -> None:
    once = verify(step(SAMPLES[name](), []))
    assert step(once, []).digest == once.digest


@settings(max_examples=150, deadline=None)
@given(graph=graphs())
def test_random_graphs_keep_their_numbers(graph: Graph) -> None:
    if any(v.dtype.packed for v in graph.params.values()):
        return
    simpler = graph
    for step in PASSES:
        simpler = verify(step(simpler, []))
    assert len(simpler.nodes) <= len(graph.nodes)
    weights = arrays_of(graph)
    before, after = run(graph, weights), run(simpler, weights)
    for name in graph.outputs:
        assert np.array_equal(before[name], after[name], equal_nan=True)
