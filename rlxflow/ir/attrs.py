"""Attributes of ops: plain hashable values, checked against the annotation in the op's signature."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal, get_args, get_origin

from rlxflow.dtypes import DType
from rlxflow.errors import GraphError, nearest, printable
from rlxflow.ir.dims import Dim, Shape, Sym, bind, dim, shape
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class AttrSpec:
    """Name, annotation and default of one attribute.

    Annotations: `int`, `float`, `bool`, `str`, `bytes`, `DType`, `Dim`, `Shape` (symbolic sizes allowed),
    `Literal[...]` (a finite domain), or a tuple type, whose values are nested tuples of plain values.
    """

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @cached_property
    def domain(self) -> tuple[Any, ...] | None:
        """The values of a finite domain, or None for an open one."""
        if self.annotation is bool:
            return (False, True)
        return get_args(self.annotation) if get_origin(self.annotation) is Literal else None

    def check(self, op_name: str, value: Any) -> Any:
        """The value in normal form; raises `GraphError` where it does not fit the annotation."""
        if value is inspect.Parameter.empty:
            raise self._error(op_name, "is missing")
        if self.domain is not None:
            return self._from_domain(op_name, value)
        try:
            return self._normal_form(value)
        except GraphError as error:
            raise self._error(op_name, error.message, error.hint) from error
        except (TypeError, OverflowError) as error:
            kind = getattr(self.annotation, "__name__", "a tuple of plain values")
            raise self._error(op_name, f"is {printable(repr(value))}, not {kind}") from error

    def _from_domain(self, op_name: str, value: Any) -> Any:
        domain = self.domain or ()
        if not any(type(value) is type(v) and value == v for v in domain):
            hint = nearest(str(value), map(str, domain)) or f"one of {', '.join(map(repr, domain))}"
            raise self._error(op_name, f"is {printable(repr(value))}", hint)
        return value

    @cached_property
    def _normal_form(self) -> Callable[[Any], Any]:
        """From a value to its normal form; raises `TypeError` where it does not fit."""
        if self.annotation == Shape:
            return shape
        if self.annotation == Dim:
            return dim
        if self.annotation is float:
            return _number
        if self.annotation is int:
            return _integer
        if self.annotation in (str, bytes, DType):
            return lambda value: _plain(value, isinstance(value, self.annotation))
        return lambda value: _plain(freeze(value), isinstance(value, (list, tuple, dict)))

    def _error(self, op_name: str, what: str, hint: str = "") -> GraphError:
        return GraphError(f"{op_name}: attribute {self.name!r} {what}", code="RLX-I005", hint=hint)


def _plain(value: Any, fits: bool) -> Any:
    if not fits:
        raise TypeError
    return value


def _integer(value: Any) -> int:
    return operator.index(_plain(value, not isinstance(value, bool)))


def _number(value: Any) -> float:
    number = float(_plain(value, isinstance(value, (int, float)) and not isinstance(value, bool)))
    return _plain(number, not math.isnan(number))


_PLAIN = (type(None), bool, int, float, str, bytes, DType, Sym)


def freeze(value: Any) -> Any:
    """Lists and mappings made hashable: tuples, and sorted tuples of pairs.

    Raises `TypeError` for a value that has no text form: NaN, an array, an object.
    """
    if isinstance(value, dict):
        return tuple(sorted((k, freeze(v)) for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(freeze(v) for v in value)
    return _plain(value, type(value) in _PLAIN and value == value)  # NaN differs from itself


def bind_attrs(attrs: Mapping[str, Any], sizes: Mapping[str, int]) -> Mapping[str, Any]:
    """Attributes with every symbolic size replaced by its value."""
    if not any(isinstance(v, (Sym, tuple)) for v in attrs.values()):
        return attrs
    return {name: _bound(v, sizes) for name, v in attrs.items()}


def _bound(value: Any, sizes: Mapping[str, int]) -> Any:
    if isinstance(value, Sym):
        return bind(value, sizes)
    return tuple(_bound(v, sizes) for v in value) if isinstance(value, tuple) else value
