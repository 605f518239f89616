"""What may be wrong with a normalisation: eps, offset, kind, bias, weight; or its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rlxflow.ir.values import Node
from rlxflow.ops.norm import layer_norm, rms_norm
from rlxflow.porting.anchors import weight_of
from rlxflow.porting.hypotheses.cause import Cause, best_number, tried, with_attrs
from rlxflow.porting.region import Region

OPS = ("rms_norm", "layer_norm")
EPS = (1e-5, 1e-6, 1e-12, 1e-8, 1e-3, 1e-2, 0.1)


def eps(region: Region) -> Iterator[Cause]:
    """Another eps; the usual ones first, then a search."""
    nodes = region.has(*OPS)
    if not nodes:
        return
    ours = nodes[0].attrs["eps"]
    for value in EPS:
        if value != ours:
            text = f"norm eps: the reference has {value:g} (ours: {ours:g})"
            yield from tried(region, "norm eps", text, with_attrs(region, nodes, eps=value))
    value, error = best_number(region, nodes, "eps", np.geomspace(1e-12, 1.0, 25).tolist())
    yield Cause("norm eps", f"norm eps: about {value:.3g} fits best (ours: {ours:g})", error)


def offset(region: Region) -> Iterator[Cause]:
    """The weight multiplies as w, or as 1 + w."""
    nodes = region.has("rms_norm")
    if nodes:
        other = not nodes[0].attrs["unit_offset"]
        text = f"norm offset: the reference multiplies by {'1 + w' if other else 'w'}"
        yield from tried(region, "norm offset", text, with_attrs(region, nodes, unit_offset=other))
        for shift in (1.0, -1.0):
            text = f"norm offset: the reference's weight is ours {shift:+g}"
            yield from tried(
                region, "norm offset", text, _weight(region, lambda w, s=shift: w + np.float32(s))
            )


def kind(region: Region) -> Iterator[Cause]:
    """RMSNorm, or LayerNorm."""
    nodes = region.has(*OPS)
    if not nodes:
        return
    ours = nodes[0].op.name

    def change(node: Node, operands: list[Any]) -> Any:
        if node.op.name not in OPS:
            return None
        assert rms_norm.reference_fn is not None and layer_norm.reference_fn is not None
        if ours == "rms_norm":
            bias = region.bias_of(weight_of(node.operands[1])[0])
            return layer_norm.reference_fn(operands[0], operands[1], bias, eps=node.attrs["eps"])
        return rms_norm.reference_fn(operands[0], operands[1], eps=node.attrs["eps"], unit_offset=False)

    other = "a LayerNorm" if ours == "rms_norm" else "an RMSNorm"
    yield from tried(region, "norm kind", f"norm kind: the reference has {other}", change)


def weight(region: Region) -> Iterator[Cause]:
    """No weight, or no bias."""
    nodes = region.has(*OPS)
    if not nodes:
        return
    text = "norm weight: the reference does not multiply by one"
    yield from tried(region, "norm weight", text, _weight(region, np.ones_like))
    if nodes[0].op.name == "layer_norm" and nodes[0].operands[2] is not None:

        def change(node: Node, operands: list[Any]) -> Any:
            return region.plain(node, [*operands[:2], None]) if node in nodes else None

        yield from tried(region, "bias", "bias: the reference's norm has none", change)


def place(region: Region) -> Iterator[Cause]:
    """No norm at all here."""
    if region.has(*OPS):
        text = "norm: the reference has none here"
        yield from tried(region, "no norm", text, lambda n, o: o[0] if n.op.name in OPS else None)


def _weight(region: Region, change_weight: Any) -> Any:
    def change(node: Node, operands: list[Any]) -> Any:
        if node.op.name not in OPS:
            return None
        return region.plain(node, [operands[0], change_weight(operands[1]), *operands[2:]])

    return change
