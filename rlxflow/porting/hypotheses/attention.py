"""What may be wrong inside an attention: mask, window, scale, softcap, grouping of heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.values import Node
from rlxflow.ops.attention import attention
from rlxflow.porting.hypotheses.cause import Cause, best_number, tried, with_attrs
from rlxflow.porting.region import Region

OPS = ("attention", "cached_attention")


def mask(region: Region) -> Iterator[Cause]:
    """Causal or both ways; padding masked or not."""
    nodes = region.has(*OPS)
    if not nodes:
        return
    causal = nodes[0].op.name == "cached_attention" or nodes[0].attrs["causal"]
    words = "the reference attends both ways" if causal else "the reference attends causally"
    yield from tried(region, "mask", f"mask: {words}", _over_call(region, causal=not causal, masked=True))
    text = "mask: the reference does not mask padding"
    yield from tried(region, "mask", text, _over_call(region, causal=causal, masked=False))


def _over_call(region: Region, causal: bool, masked: bool) -> Any:
    """Attention over the call's own tokens, whatever the op was."""

    def change(node: Node, operands: list[Any]) -> Array | None:
        if node.op.name not in OPS:
            return None
        q, k, v, *rest, sinks = operands
        attrs = {n: node.attrs[n] for n in ("scale", "window", "softcap")}
        bias = None
        if node.op.name == "cached_attention":
            _, new_len = rest
            tokens = q.shape[1]
            k, v = (np.swapaxes(x[:, :, :tokens], 1, 2) for x in (k, v))
            valid = np.arange(tokens) < new_len[:, None]
        else:
            valid, bias = rest
        assert attention.reference_fn is not None
        valid = np.asarray(valid) if masked and valid is not None else None
        result: Array = attention.reference_fn(q, k, v, valid, bias, sinks, causal=causal, **attrs)
        return result

    return change


def window(region: Region) -> Iterator[Cause]:
    """A sliding window, none, or another one."""
    nodes = region.has(*OPS)
    if not nodes:
        return
    current = nodes[0].attrs["window"]
    tokens = region.sizes.get("S", 0)
    for size in (s for s in range(min(tokens, 512)) if s != current):
        said = f"a window of {size}" if size else "no window"
        ours = f"{current}" if current else "none"
        text = f"window: the reference has {said} (ours: {ours})"
        yield from tried(region, "window", text, with_attrs(region, nodes, window=size))


def scale(region: Region) -> Iterator[Cause]:
    """Another factor of the scores."""
    nodes = region.has(*OPS)
    if not nodes:
        return
    ours = nodes[0].attrs["scale"]
    value, error = best_number(region, nodes, "scale", np.geomspace(1e-4, 4.0, 33).tolist())
    said = f"scale: the reference multiplies scores by {value:.5g} (ours: {ours:.5g})"
    yield Cause("scale", said, error)


def softcap(region: Region) -> Iterator[Cause]:
    """Scores capped by tanh, or not."""
    nodes = region.has(*OPS)
    if not nodes:
        return
    if nodes[0].attrs["softcap"]:
        text = "softcap: the reference does not cap scores"
        yield from tried(region, "softcap", text, with_attrs(region, nodes, softcap=0.0))
    value, error = best_number(region, nodes, "softcap", np.geomspace(1.0, 200.0, 17).tolist())
    yield Cause("softcap", f"softcap: the reference caps scores at {value:.4g}", error)


def grouping(region: Region) -> Iterator[Cause]:
    """Query head h reads key head h mod Hkv, not h · Hkv / H."""
    nodes = region.has(*OPS)
    if not nodes:
        return
    q = nodes[0].inputs[0]
    heads = q.dim(2)
    kv = nodes[0].inputs[1].dim(1 if nodes[0].op.name == "cached_attention" else 2)
    if not isinstance(heads, int) or not isinstance(kv, int) or kv in (1, heads):
        return
    order = np.arange(heads).reshape(-1, kv).T.reshape(-1)  # heads that share a key head, side by side

    def change(node: Node, operands: list[Any]) -> Any:
        if node.op.name not in OPS:
            return None
        result = region.plain(node, [operands[0][:, :, order], *operands[1:]])
        return result[:, :, np.argsort(order)]

    text = f"key heads: the reference has query head h read key head h mod {kv}"
    yield from tried(region, "key heads", text, change)
