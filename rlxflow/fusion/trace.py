"""Tracing: a fused op's `decompose`, run on placeholders, gives the pattern that finds it.

A pattern only proposes. Sizes and computed attributes become wildcards here; the replay of `decompose` on
what was bound decides (see `verify`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from rlxflow.errors import FusionError
from rlxflow.ir.op import Op, emitting


class Wild:
    """A size or attribute that the pattern does not fix. Arithmetic on it gives another wildcard."""

    def _any(self, *_: object) -> Wild:
        return Wild()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = _any
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __neg__ = __getitem__ = _any

    def __bool__(self) -> bool:
        raise Undecided("branches on a size or on an attribute without a finite domain")

    def __iter__(self) -> Iterator[Any]:
        raise Undecided("unpacks a shape of unknown rank; write its axes out with x.dim(i)")

    def __eq__(self, other: object) -> bool:
        raise Undecided("compares a size or an attribute without a finite domain")

    __hash__ = object.__hash__


class Undecided(Exception):
    """A decomposition that cannot be traced, and why."""


class AttrVar(Wild):
    """An attribute of the fused op; where it stands alone in the pattern it binds."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Slot:
    """A value of a pattern: an operand of the fused op (`name`), or an output of a pattern node."""

    __slots__ = ("index", "name", "node")

    def __init__(self, node: PatternNode | None, index: int, name: str = "") -> None:
        self.node = node
        self.index = index
        self.name = name

    @property
    def shape(self) -> Any:
        return Wild()

    @property
    def dtype(self) -> Any:
        return Wild()

    @property
    def rank(self) -> Any:
        return Wild()

    def dim(self, axis: int) -> Any:
        return Wild()

    def __repr__(self) -> str:
        return f"<slot {self.name or self.node}>"


class PatternNode:
    """An op of a pattern with its operands and attribute patterns."""

    __slots__ = ("attrs", "op", "operands")

    def __init__(self, op: Op[..., Any], operands: tuple[Slot | None, ...], attrs: dict[str, Any]) -> None:
        self.op = op
        self.operands = operands
        self.attrs = attrs

    def __repr__(self) -> str:
        return self.op.name


@dataclass(frozen=True, eq=False)
class Pattern:
    """One variant of a fused op: which optional operands are present, which finite attributes are fixed.

    `outputs` are the pattern values of the op's results; `nodes` its primitive nodes, operands first.
    """

    op: Op[..., Any]
    operands: tuple[Slot | None, ...]
    fixed: dict[str, Any]
    outputs: tuple[Slot, ...]
    nodes: tuple[PatternNode, ...]

    @property
    def anchor(self) -> PatternNode:
        """Where matching starts: the last node. Every other node must be among its ancestors."""
        return self.nodes[-1]

    def __repr__(self) -> str:
        return f"<pattern {self.op.name} {self.fixed} of {len(self.nodes)} nodes>"


class _Tracer:
    """An emitter that records pattern nodes, expanding every op that has a decomposition."""

    def __init__(self) -> None:
        self.nodes: list[PatternNode] = []
        self._interned: dict[tuple[Any, ...], tuple[Slot, ...]] = {}

    def call(self, op: Op[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operands = tuple(args) + tuple(kwargs.pop(n, None) for n in op.operand_names[len(args) :])
        attrs = {n: kwargs.get(n, spec.default) for n, spec in op.attrs.items()}
        if op.decompose_fn is not None:
            return op.decompose_fn(*operands, **attrs)
        key = (op, tuple(map(id, operands)), tuple((n, _identity(v)) for n, v in attrs.items()))
        if key not in self._interned:
            node = PatternNode(op, operands, attrs)
            self.nodes.append(node)
            self._interned[key] = tuple(Slot(node, i) for i in range(op.num_outputs))
        outputs = self._interned[key]
        return outputs[0] if len(outputs) == 1 else outputs


def _identity(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_identity, value))
    return id(value) if isinstance(value, Wild) and not isinstance(value, AttrVar) else value


def trace(op: Op[..., Any], decompose: Any = None, arity: int = 0) -> list[Pattern]:
    """Every variant of a fused op's pattern, largest first.

    One variant per choice of optional operands and of attributes with a finite domain; `arity` is the number
    of operands of a variadic op. `decompose` may be another spelling of the op's meaning. A variant of fewer
    than two nodes is no pattern. Raises `FusionError` where the function cannot be traced.
    """
    function = decompose or op.decompose_fn
    if function is None:
        raise FusionError(
            f"op {op.name!r} has no decomposition", code="RLX-U001", hint="add one: @op.decompose"
        )
    patterns: list[Pattern] = []
    finite = {n: spec.domain for n, spec in op.attrs.items() if spec.domain is not None}
    optional = op.operand_names[op.num_required :]
    for present in product((True, False), repeat=len(optional)):
        for values in product(*finite.values()):
            absent = {n for n, there in zip(optional, present, strict=True) if not there}
            patterns += _variant(op, function, absent, dict(zip(finite, values, strict=True)), arity)
    return sorted(patterns, key=lambda p: -len(p.nodes))


def _variant(
    op: Op[..., Any], function: Any, absent: set[str], fixed: dict[str, Any], arity: int
) -> list[Pattern]:
    names = (*op.operand_names, *(f"{op.name}_{i}" for i in range(arity)))
    operands = tuple(None if n in absent else Slot(None, 0, n) for n in names)
    attrs = {n: fixed.get(n, AttrVar(n)) for n in op.attrs}
    tracer = _Tracer()
    try:
        with emitting(tracer):
            result = function(*operands, **attrs)
    except Undecided as error:
        hint = "give the attribute a Literal domain, or the operand a default of None"
        message = f"the decomposition of {op.name!r} cannot be traced: it {error}"
        raise FusionError(message, code="RLX-U002", hint=hint) from error
    outputs = result if isinstance(result, tuple) else (result,)
    if len(tracer.nodes) < 2 or any(o.node is None for o in outputs):
        return []
    return [Pattern(op, operands, fixed, outputs, tuple(tracer.nodes))]
