"""Tracing: a fused op's `decompose`, run on placeholders, gives the pattern that finds it.

A pattern only proposes. Sizes and computed attributes become wildcards here; the replay of `decompose` on
what was bound decides (see `verify`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from itertools import product
from typing import Any

from rlxflow.errors import FusionError, printable
from rlxflow.ir.op import Op, emitting
from rlxflow.ir.values import Node
from rlxflow.quick_dataclass import dataclass


class Wild:
    """A size or attribute that the pattern does not fix. Arithmetic on it gives another wildcard."""

    name = ""

    def _any(self, *_: object) -> Wild:
        return Wild()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = _any
    __mod__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __neg__ = __getitem__ = _any

    def _asked(self, *_: object) -> bool:
        what = f"attribute {self.name!r}" if self.name else "a size, a dtype or a computed number"
        raise Undecided(f"decides by {what}", self.name)

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = _asked
    __hash__ = object.__hash__

    def __iter__(self) -> Iterator[Any]:
        raise Undecided("unpacks a shape of unknown rank; write its axes out with x.dim(i)")


class Undecided(Exception):
    """A decomposition asks what a pattern does not know; `attr` names the attribute if it is one."""

    def __init__(self, reason: str, attr: str = "") -> None:
        super().__init__(reason)
        self.attr = attr


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

    `function` is what was traced: the op's decomposition, or another spelling of its meaning. `outputs` are
    the pattern values of the op's results; `nodes` its primitive nodes, operands first.
    """

    op: Op[..., Any]
    function: Callable[..., Any]
    operands: tuple[Slot | None, ...]
    fixed: dict[str, Any]
    outputs: tuple[Slot, ...]
    nodes: tuple[PatternNode, ...]

    @property
    def anchor(self) -> PatternNode:
        """Where matching starts: the last node. Every other node must be among its ancestors."""
        return self.nodes[-1]

    @property
    def spelled(self) -> bool:
        """Whether this is another spelling, so that expanding the op does not give it back."""
        return self.function is not self.op.decompose_fn

    @cached_property
    def taken(self) -> tuple[str, ...]:
        """The attributes that its function takes."""
        return attributes_of(self.op, self.function)

    @cached_property
    def ops(self) -> frozenset[Op[..., Any]]:
        """The ops of its nodes; a graph that lacks one of them cannot hold the pattern."""
        return frozenset(n.op for n in self.nodes)

    def may_end_at(self, node: Node) -> bool:
        """A quick look at what is above a node: whether it has the ops wanted, a few steps deep."""
        return _alike(self.anchor, node, LOOK_AHEAD)

    def __repr__(self) -> str:
        return f"<pattern {self.op.name} {self.fixed} of {len(self.nodes)} nodes>"


LOOK_AHEAD = 3  # steps; an output projection then differs from others by the attention above it


def _alike(wanted: PatternNode, node: Node, depth: int) -> bool:
    if node.op is not wanted.op or len(node.operands) != len(wanted.operands):
        return False
    if depth == 0:
        return True
    orders = (node.operands, node.operands[::-1]) if node.op.commutative else (node.operands,)
    return any(
        all(
            value is not None and _alike(slot.node, value.node, depth - 1)
            for slot, value in zip(wanted.operands, operands, strict=True)
            if slot is not None and slot.node is not None
        )
        for operands in orders
    )


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
    if isinstance(value, AttrVar):
        return AttrVar, value.name
    return id(value) if isinstance(value, Wild) else value


def trace(
    op: Op[..., Any],
    spelling: Callable[..., Any] | None = None,
    together: tuple[tuple[str, ...], ...] = (),
) -> list[Pattern]:
    """Every variant of a fused op's pattern, largest first.

    One variant per choice of optional operands; those that are named `together` come and go as one. An
    attribute on which the function branches is fixed to each value of its finite domain; others stay open.
    `spelling` is another function with the op's meaning; attributes that it does not take have their
    default. A variant of fewer than two nodes is no pattern. Raises `FusionError` where the function cannot
    be traced.
    """
    function = spelling or op.decompose_fn
    if function is None:
        raise FusionError(
            f"op {op.name!r} has no decomposition", code="RLX-U001", hint="add one: @op.decompose"
        )
    taken = attributes_of(op, function)
    fixed = {n: spec.default for n, spec in op.attrs.items() if n not in taken}
    grouped = {name for group in together for name in group}
    optional = [g for g in together if g[0] in op.operand_names]
    optional += [(n,) for n in op.operand_names[op.num_required :] if n not in grouped]
    patterns: list[Pattern] = []
    for present in product((True, False), repeat=len(optional)):
        absent = {n for group, there in zip(optional, present, strict=True) if not there for n in group}
        patterns += _variants(op, function, absent, fixed)
    return sorted(patterns, key=lambda p: -len(p.nodes))


@cache  # asked for every variant, and looking at a signature takes long
def attributes_of(op: Op[..., Any], function: Callable[..., Any]) -> tuple[str, ...]:
    """The attributes of the op that a decomposition or spelling takes."""
    parameters = inspect.signature(function).parameters
    return tuple(n for n in op.attrs if n in parameters)


def _variants(
    op: Op[..., Any], function: Callable[..., Any], absent: set[str], fixed: dict[str, Any]
) -> Iterator[Pattern]:
    """The pattern for these attributes, or one per value of the first attribute that must be known."""
    operands = tuple(None if n in absent else Slot(None, 0, n) for n in op.operand_names)
    attrs = {n: fixed[n] if n in fixed else AttrVar(n) for n in attributes_of(op, function)}
    tracer = _Tracer()
    try:
        with emitting(tracer):
            result = function(*operands, **attrs)
    except Undecided as error:
        domain = op.attrs[error.attr].domain if error.attr else None
        if domain is None:
            hint = "give the attribute a Literal domain, or the operand a default of None"
            raise _untraceable(op, function, str(error), hint) from error
        for value in domain:
            yield from _variants(op, function, absent, {**fixed, error.attr: value})
        return
    except Exception as error:  # the function may come from a plugin
        what = f"raises {type(error).__name__}: {error}"
        raise _untraceable(op, function, what, _hint(error)) from error
    outputs = result if isinstance(result, tuple) else (result,)
    if len(outputs) != op.num_outputs:
        raise _untraceable(op, function, f"returns {len(outputs)} values, the op has {op.num_outputs}")
    for output in outputs:
        if not isinstance(output, Slot):
            raise _untraceable(op, function, f"returns {type(output).__name__}, which is no value")
    read = {slot for n in tracer.nodes for slot in n.operands}
    unread = [s.name for s in operands if s is not None and s not in read]
    if unread and tracer.nodes:
        raise _untraceable(op, function, f"does not read operand {unread[0]!r}")
    if len(tracer.nodes) >= 2 and all(o.node is not None for o in outputs):
        yield Pattern(op, function, operands, fixed, outputs, tuple(tracer.nodes))


_SEE = "see docs/rules.md"


def _hint(error: Exception) -> str:
    if isinstance(error, TypeError) and "unsupported operand" in str(error):
        return "ops are functions: write mul(x, y) for x * y"
    if isinstance(error, TypeError) and "argument" in str(error):
        return "it takes the op's parameters: operands by position, attributes behind a *"
    return _SEE


def _untraceable(op: Op[..., Any], function: Callable[..., Any], what: str, hint: str = _SEE) -> FusionError:
    message = f"the decomposition of {op.name!r} cannot be traced: it {printable(what)}"
    code = getattr(function, "__code__", None)
    where = f"{printable(code.co_filename)}:{code.co_firstlineno}" if code else ""
    return FusionError(message, code="RLX-U002", where=where, hint=hint)
