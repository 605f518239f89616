"""Attributes: normal forms, finite domains, and refusals that name the op and the attribute."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import numpy as np
import pytest

from rlxflow.dtypes import DType, f32
from rlxflow.errors import GraphError
from rlxflow.ir.attrs import AttrSpec, bind_attrs, freeze
from rlxflow.ir.dims import Dim, Shape, dim

REQUIRED = inspect.Parameter.empty
Kind = Literal["none", "gelu", "silu"]


@pytest.mark.parametrize(
    ("annotation", "given", "normal"),
    [
        (float, 1, 1.0),
        (float, np.float64(0.5), 0.5),
        (float, float("-inf"), float("-inf")),
        (int, 3, 3),
        (int, np.int32(3), 3),
        (bool, True, True),
        (str, "x", "x"),
        (bytes, b"x", b"x"),
        (DType, f32, f32),
        (Dim, "S+1", dim("S+1")),
        (Shape, ["B", 3], (dim("B"), 3)),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[tuple[str, Any], ...], {"b": [1, None], "a": True}, (("a", True), ("b", (1, None)))),
        (Kind, "gelu", "gelu"),
    ],
)
def test_normal_form(annotation: Any, given: Any, normal: Any) -> None:
    value = AttrSpec("a", annotation, REQUIRED).check("op", given)
    assert value == normal and type(value) is type(normal)
    assert hash(value) == hash(normal)


@pytest.mark.parametrize(
    ("annotation", "given", "complaint"),
    [
        (float, REQUIRED, "is missing"),
        (float, "1", "not float"),
        (float, True, "not float"),
        (float, float("nan"), "not float"),
        (float, 10**400, "not float"),
        (int, 1.0, "not int"),
        (int, True, "not int"),
        (int, None, "not int"),
        (bool, 1, "is 1"),
        (str, b"x", "not str"),
        (bytes, "x", "not bytes"),
        (DType, "f32", "not DType"),
        (Dim, "S S*", "not a dimension"),
        (Shape, "BS", "not a shape"),
        (Shape, (-1,), "negative"),
        (tuple[int, ...], 3, "not tuple"),
        (tuple[int, ...], (np.zeros(3),), "not tuple"),
        (tuple[int, ...], (float("nan"),), "not tuple"),
        (Kind, "gelo", "is 'gelo'"),
        (Kind, np.zeros(3), "is array"),
        (Kind, ["gelu"], r"is \['gelu'\]"),
    ],
)
def test_refusals(annotation: Any, given: Any, complaint: str) -> None:
    with pytest.raises(GraphError, match=complaint) as caught:
        AttrSpec("axis", annotation, REQUIRED).check("softmax", given)
    assert caught.value.code == "RLX-I005"
    assert caught.value.message.startswith("softmax: attribute 'axis' ")


def test_a_near_miss_of_a_domain_gets_a_hint() -> None:
    with pytest.raises(GraphError) as caught:
        AttrSpec("activation", Kind, REQUIRED).check("mlp", "gelo")
    assert caught.value.hint == "did you mean 'gelu'?"
    with pytest.raises(GraphError) as caught:
        AttrSpec("activation", Kind, REQUIRED).check("mlp", "xyzzy")
    assert caught.value.hint == "one of 'none', 'gelu', 'silu'"


def test_domains() -> None:
    assert AttrSpec("a", bool, REQUIRED).domain == (False, True)
    assert AttrSpec("a", Kind, REQUIRED).domain == ("none", "gelu", "silu")
    assert AttrSpec("a", int, 3).domain is None and not AttrSpec("a", int, 3).required


def test_binding_sizes_reaches_nested_tuples() -> None:
    attrs = {"shape": (dim("B"), 3), "size": dim("S+1"), "eps": 0.5, "nested": ((dim("B"),), None)}
    bound = bind_attrs(attrs, {"B": 2, "S": 4})
    assert bound == {"shape": (2, 3), "size": 5, "eps": 0.5, "nested": ((2,), None)}


def test_freezing_an_object_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        freeze({"a": object()})
