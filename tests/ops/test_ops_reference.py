"""Every op against a formula written in plain loops, in float32 and float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from op_case import Case
from op_cases import CASES

from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.dtypes import DType, f32, f64, to_numpy
from rlxflow.ir.builder import rebuild
from rlxflow.ir.dims import bind_shape, names, shape
from rlxflow.ir.op import OPS
from rlxflow.ir.verify import violations
from rlxflow.ops.erf import erf

TOLERANCE = {f32: 3e-6, f64: 1e-13}  # of max(1, largest expected value)
# angles are rounded to float32 before their cosine is taken, in float64 runs too
LOOSE = {"rope_tables": 3e-6}


def ids(cases: list[Case]) -> list[str]:
    return [case.id for case in cases]


def test_every_op_has_a_case() -> None:
    assert {name for name, op in OPS.items() if op.rule.__module__.startswith("rlxflow.ops.")} == {
        *(case.op for case in CASES),
        *("input", "param", "state"),  # leaves that only name what is given
    }
    assert len(set(ids(CASES))) == len(CASES)


@pytest.mark.parametrize("wide", [f32, f64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_agrees_with_its_formula(case: Case, wide: DType) -> None:
    arrays = case.draw(wide)
    results, expected = case.run(arrays, wide), case.expected(arrays)
    assert len(results) == len(expected)
    for got, want in zip(results, expected, strict=True):
        assert got.shape == want.shape
        if want.dtype.kind in "ib" or not np.isfinite(want).all():
            assert np.array_equal(got, want)
        else:
            limit = max(TOLERANCE[wide], LOOSE.get(case.op, 0)) * max(1.0, float(np.abs(want).max(initial=0)))
            assert np.abs(got - want).max(initial=0) <= limit


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_results_have_the_inferred_type(case: Case) -> None:
    graph = case.graph(f32)
    assert violations(graph) == []
    types = [v.type for v in graph.outputs.values()] + [
        s.after.type for s in graph.states if s.after is not s.before
    ]
    for got, type in zip(case.run(case.draw(f32), f32), types, strict=True):
        assert got.shape == type.shape and got.dtype == to_numpy(type.dtype)


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_rules_work_with_symbols(case: Case) -> None:
    """The type inferred from named sizes, once they are bound, is the type inferred from the numbers."""
    sizes = case.all_sizes
    _, concrete, _ = case.emit(
        [None if o is None else bind_shape(shape(o.shape), sizes) for o in case.operands], f32
    )
    symbols = [None if o is None else shape(o.shape) for o in case.operands]
    _, values, _ = case.emit(symbols, f32, bound=False)
    for got, want in zip(values, concrete, strict=True):
        assert got.dtype == want.dtype and got.type.state == want.type.state
        assert bind_shape(got.shape, sizes) == want.shape
    if any(v.rank for v in values) and case.op not in (
        "slice",
        "full",
        "iota",
        "constant",
        "relative_buckets",
    ):
        assert any(names(d) for v in values for d in v.shape)


BLOCKS = [case for case in CASES if OPS[case.op].decompose_fn is not None]


@pytest.mark.parametrize("case", BLOCKS, ids=ids(BLOCKS))
def test_blocks_have_the_type_of_their_decomposition(case: Case) -> None:
    graph = case.graph(f32)
    expanded = rebuild(graph, lambda op: op.decompose_fn is not None)
    assert all(node.op.decompose_fn is None for node in expanded.nodes)
    assert [v.type for v in expanded.outputs.values()] == [v.type for v in graph.outputs.values()]
    claims = ReferenceBackend().claims
    assert all(claims(node) for node in expanded.nodes)


def test_every_op_can_run_or_be_decomposed() -> None:
    for op in OPS.values():
        assert (op.reference_fn is None) != (op.decompose_fn is None) or op.name in (
            "input",
            "param",
            "state",
        )
        assert op.__doc__ and op.level in ("primitive", "block", "fused")


def test_exactly_the_commutative_ops_say_so() -> None:
    """Operands swapped give the same bits; the digest counts on it."""
    assert {name for name, op in OPS.items() if op.commutative} == {"add", "mul", "maximum", "minimum"}
    for case in (c for c in CASES if OPS[c.op].commutative):
        a, b = case.draw(f32)
        fn = OPS[case.op].reference_fn
        assert fn is not None and np.array_equal(fn(a, b), fn(b, a))


# -- erf ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "limit"), [(np.float64, 1e-15), (np.float32, 1.2e-7)])
def test_erf(kind: Callable[[Any], Any], limit: float) -> None:
    x = np.concatenate(
        [np.linspace(-8, 8, 20001), np.geomspace(1e-300, 1, 500), [0.0, -0.0, 30.0, np.inf, -np.inf]]
    )
    x = kind(x)  # type: ignore[assignment]
    want = np.array([math.erf(v) for v in x.astype(np.float64)])
    assert np.abs(erf(x) - want).max() <= limit
    assert erf(x).dtype == x.dtype and np.array_equal(np.signbit(erf(x)), np.signbit(x))
    assert np.isnan(erf(kind([np.nan]))).all()


def test_gelu_near_zero_keeps_its_relative_precision() -> None:
    x = np.geomspace(1e-30, 1e-3, 100)
    got = OPS["gelu"].reference_fn(x)  # type: ignore[misc]
    want = np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
    assert np.abs(got / want - 1).max() < 1e-15


# -- values at the edge ------------------------------------------------------------------------------


def test_large_values_do_not_overflow_where_the_result_is_finite() -> None:
    big = np.array([[-1e30, -100.0, 0.0, 100.0, 1e30]], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(OPS["sigmoid"].reference_fn(big)).all()  # type: ignore[misc]
        assert np.isfinite(OPS["silu"].reference_fn(big)).all()  # type: ignore[misc]
        assert np.isfinite(OPS["softmax"].reference_fn(big, axis=-1)).all()  # type: ignore[misc]


def test_attention_without_any_valid_key_is_zero_and_finite() -> None:
    (case,) = [c for c in CASES if c.id == "attention-holes"]
    with np.errstate(all="raise", under="ignore"):
        (result,) = case.run(case.draw(f32), f32)
    assert not result[1].any() and np.isfinite(result).all() and result[0].any()


def test_denormals_survive() -> None:
    tiny = np.full((2, 6), 1e-40, np.float32)
    ones = np.ones(6, np.float32)
    assert np.array_equal(OPS["add"].reference_fn(tiny, tiny), tiny * 2) and (tiny * 2 > 0).all()  # type: ignore[misc]
    normed = OPS["rms_norm"].reference_fn(tiny, ones, eps=1e-6, unit_offset=False)  # type: ignore[misc]
    assert np.isfinite(normed).all()
