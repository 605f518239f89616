"""What an error looks like: how large, of what form, at which positions and channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.porting.region import at_valid


def signature(actual: Array, expected: Array, valid: Array | None, tolerance: float) -> tuple[str, ...]:
    """A few lines on how `actual` differs from `expected`."""
    return tuple(_lines(actual, expected, valid, tolerance))


def _lines(actual: Array, expected: Array, valid: Array | None, tolerance: float) -> Iterator[str]:
    a, b = (at_valid(x, valid).astype(np.float64) for x in (actual, expected))
    if not np.isfinite(a).all():
        yield f"{int((~np.isfinite(a)).sum())} values are not finite"
        return
    difference = np.abs(a - b)
    size = max(1.0, float(np.abs(b).max(initial=0.0)))
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    cosine = float((a * b).sum() / norm) if norm else 0.0
    yield f"max |a - b| {difference.max():.3g}, of values up to {np.abs(b).max():.3g}; cosine {cosine:.6f}"
    wrong = difference > tolerance * size
    channels = wrong.reshape(len(wrong), -1).any(0)
    yield f"{int(channels.sum())} of {channels.size} channels differ"
    if expected.ndim >= 3 and valid is not None and expected.shape[:2] == valid.shape:
        yield _positions(actual, expected, valid, tolerance * size)


def _positions(actual: Array, expected: Array, valid: Array, limit: float) -> str:
    """Where in the sequences the error is: it tells masks, windows and rotations from weights."""
    difference = np.abs(actual.astype(np.float64) - expected).reshape(*valid.shape, -1).max(-1)
    wrong = (difference > limit) & valid
    columns = np.flatnonzero(wrong.any(0))
    if wrong.sum() == valid.sum():
        return "every position differs"
    first = int(columns[0]) if len(columns) else 0
    if not wrong[:, :first].any() and wrong[:, first:].sum() == valid[:, first:].sum():
        return f"positions from {first} on differ, those before do not"
    return f"{int(wrong.sum())} of {int(valid.sum())} positions differ, the first at {first}"
