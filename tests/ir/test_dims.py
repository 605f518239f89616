"""Sizes: the algebra agrees with integers, text round-trips, and nothing but sizes is taken."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rlxflow.errors import GraphError
from rlxflow.ir.dims import (
    UNKNOWN,
    Dim,
    agree,
    bind,
    bind_shape,
    dim,
    divide,
    names,
    product,
    shape,
    shape_text,
    shapes_agree,
)

NAMES = ("B", "S", "heads")
sizes = st.fixed_dictionaries({name: st.integers(0, 50) for name in NAMES})
leaves = st.one_of(st.integers(-5, 5), st.sampled_from(NAMES))
# nested ("+", a, b) expressions over small integers and names
expressions = st.recursive(leaves, lambda e: st.tuples(st.sampled_from("+-*"), e, e), max_leaves=8)


def symbolic(e: Any) -> Dim:
    if not isinstance(e, tuple):
        return dim(e)
    a, b = symbolic(e[1]), symbolic(e[2])
    return a + b if e[0] == "+" else a - b if e[0] == "-" else a * b


def evaluated(e: Any, values: dict[str, int]) -> int:
    if not isinstance(e, tuple):
        return values[e] if isinstance(e, str) else e
    a, b = evaluated(e[1], values), evaluated(e[2], values)
    return a + b if e[0] == "+" else a - b if e[0] == "-" else a * b


@given(expressions, sizes)
def test_algebra_agrees_with_integers(e: Any, values: dict[str, int]) -> None:
    assert bind(symbolic(e), values) == evaluated(e, values)


@given(expressions)
def test_text_reads_back_equal(e: Any) -> None:
    d = symbolic(e)
    again = dim(str(d))
    assert again == d and hash(again) == hash(d) and str(again) == str(d)


@given(expressions, expressions)
def test_one_normal_form(e: Any, f: Any) -> None:
    a, b = symbolic(e), symbolic(f)
    assert a + b == b + a and a * b == b * a
    assert a - a == 0 and a * 0 == 0 and a * 1 == a
    assert (a + b) * (a - b) == a * a - b * b


@given(expressions, st.integers(1, 6), sizes)
def test_divide_is_exact_or_refused(e: Any, by: int, values: dict[str, int]) -> None:
    d = symbolic(e)
    assert divide(d * by, by) == d
    quotient = divide(d, by)
    if quotient is not None:
        assert Fraction(evaluated(e, values), by) == bind(quotient, values)


def test_divide_by_zero_is_refused() -> None:
    assert divide(6, 0) is None
    assert divide(dim("B"), 0) is None


@pytest.mark.parametrize("other", [0, 7, dim("B"), UNKNOWN])
def test_unknown_absorbs_and_agrees(other: Dim) -> None:
    assert agree(UNKNOWN, other) and agree(other, UNKNOWN)
    assert UNKNOWN + other == UNKNOWN and (UNKNOWN * 3 - other) == UNKNOWN
    assert divide(UNKNOWN, 3) == UNKNOWN
    assert shapes_agree((other, 3), (UNKNOWN, 3)) and not shapes_agree((other,), (UNKNOWN, 3))


def test_agreement_is_equality_otherwise() -> None:
    assert agree(3, 3) and not agree(3, 4) and not agree(dim("B"), 3)
    assert agree(dim("S+1"), dim("1 + S")) and not agree(dim("S+1"), dim("S"))


def test_small_facts() -> None:
    assert dim("2*B*S+1") == dim("B") * dim("S") * 2 + 1
    assert 1 - dim("S") == dim("-1*S+1")
    assert dim(np.int64(7)) == 7 and type(dim(np.int64(7))) is int
    assert names(dim("B*S+B")) == {"B", "S"} and names(4) == set()
    assert product(()) == 1 and product([2, dim("B"), 3]) == dim("6*B")
    assert shape(["B", 3, dim("S")]) == (dim("B"), 3, dim("S"))
    assert shape_text(shape(["B", "S+1", 3])) == "[B,1+S,3]"
    assert bind_shape(shape(["B", "2*S", 3]), {"B": 4, "S": 5}) == (4, 10, 3)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "+",
        "B+",
        "*B",
        "B-1",
        "2B",
        "S S",
        "1.5",
        "²",
        "９９",
        "B S*",
        "a[0]",
        "9" * 5000,
        None,
        1.5,
        True,
        (1,),
        b"B",
    ],
)
def test_not_a_dimension(value: Any) -> None:
    with pytest.raises(GraphError, match="is not a dimension") as caught:
        dim(value)
    assert caught.value.code == "RLX-I001" and '"S+1"' in caught.value.hint


@pytest.mark.parametrize("value", ["BS", 5, None, (1, -2), ("B", None), [1.0]])
def test_not_a_shape(value: Any) -> None:
    with pytest.raises(GraphError) as caught:
        shape(value)
    assert caught.value.code == "RLX-I001" and caught.value.hint


def test_a_name_without_a_size_is_named() -> None:
    with pytest.raises(GraphError, match="dimension 'C' has no size") as caught:
        bind(dim("B+C"), {"B": 1})
    assert caught.value.code == "RLX-I002" and "names C" in caught.value.hint
