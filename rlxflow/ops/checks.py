"""Checks that type rules share. Each raises `GraphError` with the sizes found."""

from __future__ import annotations

from rlxflow.dtypes import DType
from rlxflow.errors import GraphError
from rlxflow.ir.dims import Dim, Shape, agree, shape_text
from rlxflow.ir.values import Value


def fail(message: str, hint: str = "") -> GraphError:
    return GraphError(message, code="RLX-I010", hint=hint)


def want_at_least_rank(name: str, v: Value, rank: int) -> None:
    if v.rank < rank:
        raise fail(f"{name} has rank {v.rank} {shape_text(v.shape)}, wanted {rank} or more")


def want_rank(name: str, v: Value, *ranks: int) -> None:
    if v.rank not in ranks:
        raise fail(f"{name} has rank {v.rank} {shape_text(v.shape)}, wanted {' or '.join(map(str, ranks))}")


def want_shape(name: str, v: Value, shape: Shape) -> None:
    if v.rank != len(shape) or not all(agree(a, b) for a, b in zip(v.shape, shape, strict=True)):
        raise fail(f"{name} is {shape_text(v.shape)}, wanted {shape_text(shape)}")


def want_dim(name: str, found: Dim, wanted: Dim) -> None:
    if not agree(found, wanted):
        raise fail(f"{name} is {found}, wanted {wanted}")


def want_float(name: str, v: Value) -> None:
    if v.dtype.kind != "float":
        raise fail(f"{name} is {v.dtype}, wanted a float type")


def want_number(name: str, v: Value) -> None:
    if v.dtype.kind not in ("float", "int"):
        raise fail(
            f"{name} is {v.dtype}, wanted a number type", "use cast on flags, linear or gather on weights"
        )


def want_plain(name: str, v: Value) -> None:
    """Packed blocks have rows, not elements."""
    if v.dtype.packed:
        raise fail(
            f"{name} is packed {v.dtype}", "only linear, gather and whole-row moves take packed weights"
        )


def want_mask(name: str, v: Value, shape: Shape) -> None:
    want_shape(name, v, shape)
    if v.dtype.is_float:
        raise fail(f"{name} is {v.dtype}", "a mask is integer or bool, non-zero where the token is valid")


def want_integer(name: str, v: Value) -> None:
    if v.dtype.kind != "int":
        raise fail(
            f"{name} is {v.dtype}, wanted an integer type", "token ids, positions and lengths are integers"
        )


def want_weight(name: str, v: Value) -> None:
    """A weight may have any float type, packed ones included."""
    if not v.dtype.is_float:
        raise fail(f"{name} is {v.dtype}, wanted a float or packed weight")


def want_dtype(name: str, v: Value, dtype: DType) -> None:
    if v.dtype != dtype:
        raise fail(f"{name} is {v.dtype}, wanted {dtype}")


def common_dtype(a: Value, b: Value) -> DType:
    """The dtype of both. A weight stored in another float type takes the other operand's."""
    weights = [is_stored(v) for v in (a, b)]
    if a.dtype.kind == b.dtype.kind == "float" and weights in ([True, False], [False, True]):
        return b.dtype if weights[0] else a.dtype
    want_dtype("b", b, a.dtype)
    return a.dtype


def is_stored(v: Value) -> bool:
    """Whether a value is a weight, or rows of weights put side by side: it has the weight's storage type."""
    stack, seen = [v.node], set()
    while stack:
        node = stack.pop()
        if node.op.name in ("slice", "concat") and node not in seen:
            seen.add(node)
            stack.extend(x.node for x in node.inputs)
        elif node.op.name != "param" and node not in seen:
            return False
    return True


def axis_of(axis: int, rank: int) -> int:
    """A non-negative axis."""
    if not -rank <= axis < rank:
        raise fail(f"axis {axis} is outside rank {rank}")
    return axis % rank


def broadcast_rows(*operands: Value, **_: object) -> int:
    """Every position is independent, unless a leading axis of a smaller operand lands on an inner axis."""
    widest = max(operands, key=lambda v: v.rank)
    stray = any(v.rank < widest.rank and v.rank and v.dim(0) == widest.dim(0) for v in operands)
    return 0 if stray else widest.rank


def broadcast(a: Shape, b: Shape) -> Shape:
    """The common shape of two operands, aligned at the last axis, where a size of 1 stretches."""
    if len(a) < len(b):
        a, b = b, a
    padded = (1,) * (len(a) - len(b)) + b
    out: list[Dim] = []
    for x, y in zip(a, padded, strict=True):
        if not (agree(x, y) or x == 1 or y == 1):
            raise fail(f"shapes {shape_text(a)} and {shape_text(b)} do not broadcast")
        out.append(y if x == 1 or (not isinstance(x, int) and isinstance(y, int) and y != 1) else x)
    return tuple(out)
