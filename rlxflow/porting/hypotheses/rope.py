"""What may be wrong with rotary positions: pairing, base, part of the head, scaling, positions, absence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rlxflow.ir.values import Node
from rlxflow.porting.hypotheses.cause import Cause, best_number, tried, with_attrs
from rlxflow.porting.region import Region

THETAS = (1e4, 5e5, 1e6, 1e5, 1.5e5, 1e3, 2.5e5, 1e7)


def pairing(region: Region) -> Iterator[Cause]:
    """Pairs (i, i + R/2), or neighbours (2i, 2i + 1)."""
    nodes = region.has("rope")
    if nodes:
        other = not nodes[0].attrs["interleaved"]
        pairs = "neighbours (2i, 2i + 1)" if other else "halves (i, i + R/2)"
        text = f"rope pairing: the reference rotates {pairs}"
        yield from tried(region, "rope pairing", text, with_attrs(region, nodes, interleaved=other))


def theta(region: Region) -> Iterator[Cause]:
    """Another base; the usual ones first, then a search."""
    tables = region.has("rope_tables")
    if not tables or not region.has("rope"):
        return
    ours = tables[0].attrs["theta"]
    for value in THETAS:
        if value != ours:
            text = f"rope theta: the reference has {value:g} (ours: {ours:g})"
            yield from tried(region, "rope theta", text, with_attrs(region, tables, theta=value))
    value, error = best_number(region, tables, "theta", np.geomspace(10.0, 1e8, 29).tolist())
    yield Cause("rope theta", f"rope theta: about {value:.4g} fits best (ours: {ours:g})", error)


def scaling(region: Region) -> Iterator[Cause]:
    """A scaling that the reference does not have, or a linear one that it has."""
    tables = region.has("rope_tables")
    if not tables or not region.has("rope"):
        return
    if tables[0].attrs["scaling"]:
        text = "rope scaling: the reference scales nothing"
        yield from tried(region, "rope scaling", text, with_attrs(region, tables, scaling=()))
    for factor in (2.0, 4.0, 8.0, 16.0, 32.0):
        linear = (("factor", factor), ("rope_type", "linear"))
        text = f"rope scaling: the reference divides positions by {factor:g}"
        yield from tried(region, "rope scaling", text, with_attrs(region, tables, scaling=linear))


def part(region: Region) -> Iterator[Cause]:
    """Only the first channels of a head are rotated, or all."""
    tables, ropes = region.has("rope_tables"), region.has("rope")
    if not tables or not ropes:
        return
    head_dim, ours = ropes[0].inputs[0].dim(3), tables[0].attrs["rotary_dim"]
    if not isinstance(head_dim, int):
        return
    for size in dict.fromkeys(int(head_dim * f) // 2 * 2 for f in (1.0, 0.75, 0.5, 0.4, 0.25)):
        if size not in (0, ours):
            text = f"partial rope: the reference rotates {size} of {head_dim} channels (ours: {ours})"
            yield from tried(region, "partial rope", text, with_attrs(region, tables, rotary_dim=size))


def absence(region: Region) -> Iterator[Cause]:
    """No rotation at all."""
    if region.has("rope"):
        text = "rope: the reference does not rotate here"
        yield from tried(region, "no rope", text, lambda n, o: o[0] if n.op.name == "rope" else None)


def positions(region: Region) -> Iterator[Cause]:
    """Positions that count from elsewhere."""
    if not region.has("rope_tables") or not region.has("rope"):
        return
    for offset in (1, 2, -1):

        def change(node: Node, operands: list[Any], offset: int = offset) -> Any:
            if node.op.name != "rope_tables":
                return None
            return region.plain(node, [operands[0] + offset, *operands[1:]])

        # rotations are relative: this shows only where q and k are recorded, or tables scale by length
        text = f"rope positions: the reference counts from {offset}"
        yield from tried(region, "positions", text, change)
