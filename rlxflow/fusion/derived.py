"""Fused ops that are their decomposition: the type rule follows from it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from rlxflow.ir.op import Op, emitting, op
from rlxflow.ir.values import Node, Type

P = ParamSpec("P")
R = TypeVar("R")


_UNCHECKED: set[Op[..., Any]] = set()


def fused_op(
    check: Callable[..., None] | None = None, *, takes_state: bool = False
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Make a decomposition a fused op row; its signature is the interface, as in `op`.

    Types are those of the ops in it, and misuse is reported in their words. `check` has the same parameters
    and raises for what these ops allow and the fused op does not, such as broadcasting.
    """

    def register(decompose: Callable[P, R]) -> Op[P, R]:
        @functools.wraps(decompose)
        def rule(*operands: Any, **attrs: Any) -> Any:
            if check is not None:
                check(*operands, **attrs)
            return _types(decompose, operands, attrs)

        row: Any = op("fused", takes_state=takes_state)(rule)
        row.decompose(decompose)
        if check is None:
            _UNCHECKED.add(row)
        return row

    return register


def _types(
    decompose: Callable[..., Any], operands: tuple[Any, ...], attrs: dict[str, Any]
) -> Type | tuple[Type, ...]:
    with emitting(_TypesOnly()):
        result = decompose(*operands, **attrs)
    return tuple(v.type for v in result) if isinstance(result, tuple) else result.type


def is_derived(op: Op[..., Any]) -> bool:
    """Whether the type rule of an op says no more than its decomposition."""
    return op in _UNCHECKED


class _TypesOnly:
    """An emitter whose nodes are in no graph."""

    def call(self, op: Op[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operands, attrs = op.bind(args, kwargs)
        outputs = Node(op, operands, attrs, op.infer(operands, attrs)).outputs
        return outputs[0] if len(outputs) == 1 else outputs
