"""Attributes of ops: plain hashable values, checked against the annotation in the op's signature."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from rlxflow.dtypes import DType
from rlxflow.errors import GraphError, nearest
from rlxflow.ir.dims import Shape, Sym, bind, shape


@dataclass(frozen=True, slots=True)
class AttrSpec:
    """Name, annotation and default of one attribute.

    Annotations: `int`, `float`, `bool`, `str`, `bytes`, `DType`, `Shape` (symbolic sizes allowed),
    `Dim`, `Literal[...]` (a finite domain), `tuple[int, ...]`, `Pairs`, or one of these `| None`.
    """

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def domain(self) -> tuple[Any, ...] | None:
        """The values of a finite domain, or None for an open one."""
        if self.annotation is bool:
            return (False, True)
        return get_args(self.annotation) if get_origin(self.annotation) is Literal else None

    def check(self, op_name: str, value: Any) -> Any:
        """The value in normal form; raises `GraphError` where it does not fit the annotation."""
        if value is inspect.Parameter.empty:
            raise self._error(op_name, "is missing")
        if self.domain is not None and value not in self.domain:
            raise self._error(
                op_name, f"is {value!r}, not one of {self.domain}", nearest(str(value), map(str, self.domain))
            )
        if self.annotation is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            if math.isnan(value):
                raise self._error(op_name, "is NaN")
            return float(value)
        if self.annotation is int and (isinstance(value, bool) or not isinstance(value, int)):
            raise self._error(op_name, f"is {value!r}, not an integer")
        if self.annotation in (str, bytes, DType, float) and not isinstance(value, self.annotation):
            raise self._error(op_name, f"is {value!r}, not {self.annotation.__name__}")
        if self.annotation == Shape:
            return shape(value)
        return value if isinstance(value, (Sym, DType)) else freeze(value)

    def _error(self, op_name: str, what: str, hint: str = "") -> GraphError:
        return GraphError(f"{op_name}: attribute {self.name!r} {what}", code="RLX-I005", hint=hint)


def freeze(value: Any) -> Any:
    """Lists and mappings made hashable: tuples, and sorted tuples of pairs."""
    if isinstance(value, dict):
        return tuple(sorted((k, freeze(v)) for k, v in value.items()))
    return tuple(freeze(v) for v in value) if isinstance(value, (list, tuple)) else value


def bind_attrs(attrs: Mapping[str, Any], sizes: Mapping[str, int]) -> Mapping[str, Any]:
    """Attributes with every symbolic size replaced by its value."""
    if not any(isinstance(v, (Sym, tuple)) for v in attrs.values()):
        return attrs
    return {name: _bound(v, sizes) for name, v in attrs.items()}


def _bound(value: Any, sizes: Mapping[str, int]) -> Any:
    if isinstance(value, Sym):
        return bind(value, sizes)
    return tuple(_bound(v, sizes) for v in value) if isinstance(value, tuple) else value
