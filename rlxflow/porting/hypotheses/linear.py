"""What may be wrong with a weight: transposed, permuted, another tensor, a bias too many or too few."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.values import Node
from rlxflow.porting.anchors import weight_of
from rlxflow.porting.hypotheses.cause import Cause, float_rows, tried
from rlxflow.porting.region import Region, at_valid, read_weight

MOST_TENSORS = 64  # that are tried in the place of one


def transposed(region: Region) -> Iterator[Cause]:
    """Stored the other way round."""
    for node in region.has("linear"):
        if len(region.has("linear")) > 1:
            return
        text = f"transposed weight: {_key(node)} is stored the other way round"
        yield from tried(region, "transposed weight", text, _with_weight(region, node, _turned))


def _turned(w: Array) -> Array:
    return w.T if w.shape[0] == w.shape[1] else w.reshape(w.shape[::-1]).T


def permuted(region: Region) -> Iterator[Cause]:
    """The columns of the reference are ours in another order; the one for rotary pairs is named."""
    linears = region.has("linear")
    if len(linears) != 1:
        return
    ours, wanted = (float_rows(at_valid(x, region.valid)) for x in (region.run(), region.expected))
    if ours.shape != wanted.shape or ours.shape[1] > 16384:
        return
    order = _matching_columns(ours, wanted)
    if order is None:
        return
    error = region.error(region.run()[..., order].reshape(region.expected.shape))
    width, key = len(order), _key(linears[0])
    for heads in range(1, width // 2 + 1):
        if width % heads or (width // heads) % 2:
            continue
        pairs = np.arange(width).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)
        if np.array_equal(order, pairs) or np.array_equal(order, np.argsort(pairs)):
            text = f"rope pairing: the rows of {key} are permuted for the other pairing ({heads} heads)"
            yield Cause("rope pairing", text, error)
            return
    yield Cause("permuted weight", f"permuted weight: the rows of {key} are in another order", error)


def _matching_columns(ours: Array, wanted: Array) -> Array | None:
    """For each wanted column the one of ours that equals it best; None unless that is a permutation."""
    size = max(1.0, np.abs(wanted).max())
    order = np.array([int(np.abs(ours - column[:, None]).max(0).argmin()) for column in wanted.T])
    same = np.array_equal(order, np.arange(len(order))) or len(set(order.tolist())) != len(order)
    return None if same or np.abs(ours[:, order] - wanted).max() > 1e-3 * size else order


def bias(region: Region) -> Iterator[Cause]:
    """The difference is one vector at every token, and there is a place for a bias."""
    nodes = region.has("linear", "layer_norm")
    if not nodes:
        return
    ours = region.run()
    unread = region.bias_of(_key(nodes[-1]))
    if unread is not None and unread.shape == ours.shape[-1:]:
        text = f"bias: the files hold one beside {_key(nodes[-1])}, which we do not read"
        yield Cause("bias", text, region.error(ours + unread))
    difference = float_rows(at_valid(region.expected, region.valid) - at_valid(ours, region.valid))
    if len(difference) < 2:
        return
    shift = difference.mean(0).astype(np.float32)
    added = [v for n in region.has("add", "layer_norm") for v in n.inputs[-1:] if v.rank == 1]
    key = next((weight_of(v)[0] for v in added), "")
    what = f"{key} has other values" if key else "we add none"
    error = region.error((ours + shift.reshape(ours.shape[-1:])).astype(np.float32))
    yield Cause("bias", f"bias: the reference adds another vector than we do: {what}", error)


def other_tensor(region: Region) -> Iterator[Cause]:
    """Another tensor of the checkpoint, of the same shape, in this one's place."""
    linears = region.has("linear", "layer_norm", "rms_norm")
    if len(linears) != 1:
        return
    node = linears[0]
    own = _key(node)
    shape = node.inputs[1].shape
    keys = [k for k in region.stored.keys() if k != own and region.stored.info(k).shape == shape]  # noqa: SIM118
    for key in sorted(keys, key=lambda k: _distance(own, k))[:MOST_TENSORS]:
        info = region.stored.info(key)
        if not info.dtype.is_float or info.dtype.packed:
            continue
        stored = region.stored.read(key).astype(np.float32)
        tied = {"lm_head.weight"} & {own, key} or ("embed" in key and "head" in own)
        kind = "tied head" if tied else "swapped weight"
        what = f"the reference uses {key} where we use {own}"
        change = _with_weight(region, node, lambda _, w=stored: w)
        yield from tried(region, kind, f"{kind}: {what}", change)


def other_rows(region: Region) -> Iterator[Cause]:
    """Where one weight holds several parts: another part of it."""
    linears = region.has("linear")
    if len(linears) != 1 or linears[0].inputs[1].node.op.name != "slice":
        return
    part = linears[0].inputs[1].node
    (whole,) = part.inputs
    start, count = part.attrs["start"], part.attrs["stop"] - part.attrs["start"]
    rows = whole.dim(0)
    if whole.node.op.name != "param" or not isinstance(rows, int):
        return
    array, key = read_weight(region.source, whole.node), _key(linears[0])
    for first in range(0, rows - count + 1, math.gcd(rows, count)):
        if first != start:
            change = _with_weight(region, linears[0], lambda _, w=array[first : first + count]: w)
            text = f"swapped weight: the reference uses rows from {first} of {key} where we use {start}"
            yield from tried(region, "swapped weight", text, change)


def _distance(one: str, other: str) -> tuple[int, str]:
    """Fewer equal parts in front come later."""
    a, b = one.split("."), other.split(".")
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    head = "embed" in other and "head" in one
    return (-math.inf if head else -same, other)  # type: ignore[return-value]


def _key(node: Node) -> str:
    return weight_of(node.operands[1])[0] or "the weight"


def _with_weight(region: Region, node: Node, change_weight: Any) -> Any:
    def change(at: Node, operands: list[Any]) -> Any:
        if at is not node:
            return None
        return region.plain(node, [operands[0], change_weight(operands[1]), *operands[2:]])

    return change


def table_rows(region: Region) -> Iterator[Cause]:
    """A table read at other rows: positions that begin at 1 or 2, for example."""
    for node in region.has("gather"):
        key = weight_of(node.operands[0])[0] or "the table"
        for offset in (1, 2, -1, -2):

            def change(at: Node, operands: list[Any], node: Node = node, offset: int = offset) -> Any:
                return np.take(operands[0], operands[1] + offset, 0, mode="clip") if at is node else None

            text = f"positions: the reference reads row i {offset:+d} of {key} where we read row i"
            yield from tried(region, "positions", text, change)

        def without(at: Node, operands: list[Any], node: Node = node) -> Any:
            return region.plain(node, operands) * 0 if at is node else None

        text = f"missing term: the reference does not add {key}"
        yield from tried(region, "missing term", text, without)
