"""The rows fact of each op: what it claims to keep apart, it keeps apart, to the last bit."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from op_case import Case
from op_cases import CASES

from rlxflow.dtypes import Array, f32
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.op import OPS, emitting
from rlxflow.ir.values import Value
from rlxflow.ops.checks import broadcast_rows
from rlxflow.ops.leaves import input_


def rows_of(case: Case) -> int:
    """The rows fact of the case's node, 0 where the op gives none."""
    graph = case.graph(f32)
    node = next(n for n in graph.nodes if n.op.name == case.op)
    return 0 if node.op.rows_fn is None else node.op.rows_fn(*node.operands, **node.attrs)


CLAIMS = [case for case in CASES if OPS[case.op].decompose_fn is None and rows_of(case) >= 1]


def carries(case: Case, i: int, axes: int, leading: tuple[int, ...], result_rank: int) -> int:
    """How many of the leading `axes` operand i has: a smaller broadcast operand and a weight have none."""
    operand = case.operands[i]
    apart = {"gather": 0, "attention": 4}  # a table and a bias have no row of their own
    if operand is None or operand.role == "param" or apart.get(case.op) == i:
        return 0
    shape = tuple(case.all_sizes.get(d, d) for d in operand.shape)  # type: ignore[arg-type]
    elementwise = OPS[case.op].rows_fn is broadcast_rows or case.op == "broadcast_to"
    if elementwise and len(shape) < result_rank:
        return 0
    shared = 0
    while shared < min(axes, len(shape)) and shape[shared] == leading[shared]:
        shared += 1
    return shared


def perturbed(
    case: Case,
    arrays: list[Array | None],
    axes: int,
    leading: tuple[int, ...],
    row: tuple[int, ...],
    rank: int,
) -> list[Array | None]:
    """Every operand changed everywhere but at `row` of the leading axes it has."""
    changed: list[Array | None] = []
    for i, array in enumerate(arrays):
        own = 0 if array is None else carries(case, i, axes, leading, rank)
        if array is None or own == 0 or array.dtype.kind != "f":
            changed.append(array)
            continue
        other = (array * np.float32(0.5) + np.float32(0.25)).astype(array.dtype)
        other[row[:own]] = array[row[:own]]
        changed.append(other)
    return changed


@pytest.mark.parametrize("case", CLAIMS, ids=[c.id for c in CLAIMS])
def test_other_rows_do_not_matter(case: Case) -> None:
    axes = rows_of(case)
    arrays = case.draw(f32)
    results = case.run(arrays, f32)
    leading = results[0].shape[:axes]
    assert len(leading) == axes
    rows = list(product(*map(range, leading)))
    for row in [rows[0], rows[len(rows) // 2], rows[-1]]:
        other = perturbed(case, arrays, axes, leading, row, results[0].ndim)
        for result, again in zip(results, case.run(other, f32), strict=True):
            assert np.array_equal(result[row], again[row], equal_nan=True)


BATCHED = [case for case in CLAIMS if case.run(case.draw(f32), f32)[0].shape[0] == 2]


@pytest.mark.parametrize("case", BATCHED, ids=[c.id for c in BATCHED])
def test_the_order_of_the_batch_does_not_matter(case: Case) -> None:
    """Rows swapped give results swapped, to the bit."""
    arrays = case.draw(f32)
    results = case.run(arrays, f32)
    leading = results[0].shape[:1]
    swapped: list[Any] = []
    for i, array in enumerate(arrays):
        own = 0 if array is None else carries(case, i, 1, leading, results[0].ndim)
        swapped.append(array[::-1].copy() if array is not None and own else array)
    for result, again in zip(results, case.run(swapped, f32), strict=True):
        assert np.array_equal(result, again[::-1], equal_nan=True)


def test_mixing_axes_are_not_claimed() -> None:
    facts = {case.id: rows_of(case) for case in CASES}
    expected = {
        "softmax-large": 1, "softmax": 2, "softmax-vector": 0, "slice": 2, "slice-first": 1, "slice-batch": 0,
        "concat": 2, "concat-three": 0, "transpose": 1, "transpose-reversed": 0, "reshape": 2,
        "reshape-flat": 0, "linear": 2, "linear-vector": 0, "matmul": 2, "matmul-broadcast": 0,
        "attention-plain": 1, "cached_attention-chunk": 1, "cache_append-first": 1, "mean_pool": 1,
        "select_token": 1, "rope": 2, "rope_tables": 2, "gather": 2, "gather-scalar": 0, "layer_norm": 2,
        "rms_norm": 2, "add-same": 3, "add-row": 3, "gelu": 3, "l2_normalize": 2, "where": 3,
        "broadcast_to": 3,
    }  # fmt: skip
    assert {name: facts[name] for name in expected} == expected


def test_a_leading_axis_that_lands_on_an_inner_one_is_not_claimed() -> None:
    def fact(name: str, *values: Value, **attrs: Any) -> int:
        rows = OPS[name].rows_fn
        assert rows is not None
        return rows(*values, **attrs)

    with emitting(GraphBuilder()):
        square, line = (input_(key=str(s), dtype=f32, shape=s) for s in (("B", "B"), ("B",)))
        assert fact("add", square, line) == 0 and fact("add", line, square) == 0
        assert fact("add", square, square) == 2
        assert fact("broadcast_to", line, shape=square.shape) == 0
        assert fact("broadcast_to", line, shape=(2, *line.shape)) == 2


def test_the_cases_cover_every_op_that_claims_rows() -> None:
    claiming = {name for name, op in OPS.items() if op.rows_fn is not None and op.decompose_fn is None}
    assert {case.op for case in CLAIMS} >= claiming
