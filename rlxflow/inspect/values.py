"""Looking for values that no weight should have."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rlxflow.dequantize import dequantize
from rlxflow.dtypes import Array, DType
from rlxflow.errors import WeightsError, printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.source import WeightSource

_BLOCK = 1 << 22  # elements looked at together


@dataclass(frozen=True)
class BadValues:
    """A tensor with values that are not finite, and how many; a bad scale counts for its block."""

    key: str
    nans: int
    infinities: int


def bad_values(source: WeightSource, advance: Callable[[int], object]) -> Iterator[BadValues]:
    """Every float tensor of `source` that holds NaN or infinity. Reads all data, one tensor at a time.

    `advance` is told the bytes done. Raises `WeightsError` for a tensor that cannot be read.
    """
    for key in source.keys():  # noqa: SIM118 (a source is no mapping)
        info = source.info(key)
        if info.dtype.is_float:
            nans, infinities = _count(info.dtype, source.read(key))
            if nans or infinities:
                yield BadValues(key, nans, infinities)
        advance(info.nbytes)


def bad_values_error(found: list[BadValues], where: str) -> WeightsError:
    """One error that names the tensors."""
    shown = ", ".join(
        f"{printable(b.key, 80)} ({b.nans:,} NaN, {b.infinities:,} infinite)" for b in found[:5]
    )
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return WeightsError(
        f"{len(found)} tensors hold values that are not finite: {shown}{more}",
        code="RLX-W049",
        where=where,
        hint="the checkpoint is damaged or its training diverged; download it again",
        details={
            "tensors": [{"key": b.key, "nans": b.nans, "infinities": b.infinities} for b in found],
        },
    )


def _count(dtype: DType, data: Array) -> tuple[int, int]:
    flat = data.reshape(-1)
    step = _BLOCK // dtype.block_size * dtype.block_bytes if dtype.packed else _BLOCK
    nans = infinities = 0
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        values = dequantize(dtype, part) if dtype.packed else part
        if not np.isfinite(values).all():
            nans += int(np.isnan(values).sum())
            infinities += int(np.isinf(values).sum())
    return nans, infinities
