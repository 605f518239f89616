"""Dimensions: integers and symbolic sizes.

A symbolic size is a polynomial with integer coefficients over named sizes, kept in normal form, so that
`S + 1`, `2*S` and `B*S` can be written and compared. `UNKNOWN` ("?") is the size of a weight that no
header has told yet; it agrees with everything and exists only while a flow is checked without weights.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

from rlxflow.errors import GraphError, printable
from rlxflow.quick_dataclass import dataclass

Monomial: TypeAlias = tuple[str, ...]  # sorted names, () for the constant term


@dataclass(frozen=True)
class Sym:
    """A non-constant polynomial: sorted (monomial, coefficient) pairs without zero coefficients."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        total = dict(self.terms)
        for names, coefficient in _terms(other):
            total[names] = total.get(names, 0) + coefficient
        return _normal(total)

    def __mul__(self, other: Dim) -> Dim:
        total: dict[Monomial, int] = {}
        for names_a, a in self.terms:
            for names_b, b in _terms(other):
                names = tuple(sorted(names_a + names_b))
                total[names] = total.get(names, 0) + a * b
        return _normal(total)

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: int) -> Dim:
        return self * -1 + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        return _terms_text(self.terms)

    __repr__ = __str__


@lru_cache(4096)
def _terms_text(terms: tuple[tuple[Monomial, int], ...]) -> str:
    parts = []
    for names, coefficient in terms:
        factors = ([str(coefficient)] if coefficient != 1 or not names else []) + list(names)
        parts.append("*".join(factors))
    return "+".join(parts)


Dim: TypeAlias = int | Sym
DimLike: TypeAlias = int | str | Sym
Shape: TypeAlias = tuple[Dim, ...]

UNKNOWN = Sym(((("?",), 1),))


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    return ((((), dim),) if dim else ()) if isinstance(dim, int) else dim.terms


def _normal(total: dict[Monomial, int]) -> Dim:
    if any("?" in names for names in total):
        return UNKNOWN
    kept = tuple(sorted((names, c) for names, c in total.items() if c))
    if not kept:
        return 0
    return kept[0][1] if len(kept) == 1 and kept[0][0] == () else Sym(kept)


_INTEGER = re.compile(r"-?[0-9]{1,18}")


def dim(value: DimLike) -> Dim:
    """A dimension from an integer, a `Sym`, or text such as "B", "S+1" or "2*B*S"."""
    if type(value) is int or isinstance(value, Sym):
        return value
    if isinstance(value, str):
        return _parsed(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _not_a_dim(value)
    return operator.index(value)


@lru_cache(4096)
def _parsed(text: str) -> Dim:
    total: Dim = 0
    for part in text.split("+"):
        total = total + product(_factor(factor.strip(" "), text) for factor in part.split("*"))
    return total


def _factor(text: str, whole: str) -> Dim:
    if _INTEGER.fullmatch(text):
        return int(text)
    if text.isidentifier():
        return Sym((((text,), 1),))
    if text == "?":
        return UNKNOWN
    raise _not_a_dim(whole)


def _not_a_dim(value: object) -> GraphError:
    return GraphError(
        f"{printable(repr(value))} is not a dimension",
        code="RLX-I001",
        hint='write an integer, a name such as "B", or a sum of products such as "S+1"',
    )


def shape(values: Iterable[DimLike]) -> Shape:
    """A shape from dimension-like values; raises `GraphError` for anything else, and for negative sizes."""
    if type(values) is tuple and all([type(d) is Sym or (type(d) is int and d >= 0) for d in values]):  # noqa: C419
        return values
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise GraphError(
            f"{printable(repr(values))} is not a shape",
            code="RLX-I001",
            hint='write a tuple of sizes, such as ("B", "S", 384)',
        )
    dims = tuple([dim(v) for v in values])
    if any(isinstance(d, int) and d < 0 for d in dims):
        raise GraphError(
            f"shape {shape_text(dims)} has a negative size", code="RLX-I001", hint="sizes are 0 or more"
        )
    return dims


def agree(a: Dim, b: Dim) -> bool:
    """Whether two dimensions are the same size; `UNKNOWN` agrees with everything."""
    return a == b or UNKNOWN in (a, b)


def shapes_agree(a: Shape, b: Shape) -> bool:
    """Whether two shapes have the same rank and agreeing dimensions."""
    return len(a) == len(b) and all(agree(x, y) for x, y in zip(a, b, strict=True))


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions, 1 for none."""
    total: Dim = 1
    for d in dims:
        total = total * d
    return total


def divide(a: Dim, b: int) -> Dim | None:
    """`a / b` where every coefficient is divisible and b is not 0, else None."""
    if a == UNKNOWN:
        return UNKNOWN
    if b == 0 or any(c % b for _, c in _terms(a)):
        return None
    return _normal({names: c // b for names, c in _terms(a)})


def names(d: Dim) -> set[str]:
    """The named sizes in a dimension."""
    return {name for monomial, _ in _terms(d) for name in monomial}


def bind(d: Dim, sizes: Mapping[str, int]) -> int:
    """The integer value of a dimension under `sizes`; raises `GraphError` for a name without a size."""
    if isinstance(d, int):
        return d
    total = 0
    for monomial, coefficient in d.terms:
        for name in monomial:
            if name not in sizes:
                raise GraphError(
                    f"dimension {name!r} has no size",
                    code="RLX-I002",
                    hint=f"pass an input whose shape names {name}",
                )
            coefficient *= sizes[name]
        total += coefficient
    return total


def bind_shape(s: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A concrete shape under `sizes`."""
    return tuple(bind(d, sizes) for d in s)


def shape_text(s: Shape) -> str:
    """`[B,S,384]`."""
    return "[" + ",".join(str(d) for d in s) + "]"
