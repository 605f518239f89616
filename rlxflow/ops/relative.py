"""Relative positions in logarithmic buckets (T5, arXiv 1910.10683; MPNet)."""

from __future__ import annotations

import math

import numpy as np

from rlxflow.dtypes import Array, i32
from rlxflow.ir.dims import Dim
from rlxflow.ir.op import op
from rlxflow.ir.values import Type
from rlxflow.ops.checks import fail


@op("primitive")
def relative_buckets(*, size: Dim, num_buckets: int, max_distance: int) -> Type:
    """The bucket of j − i for every query i and key j: i32 [size, size], from 0 to num_buckets − 1.

    Half of the buckets are for j > i. Of each half, the first half hold one distance each, the others ever
    more in a geometric series up to `max_distance`, and what lies beyond falls into the last.
    """
    if num_buckets < 4 or num_buckets % 4 or max_distance <= num_buckets // 4:
        message = f"{num_buckets} buckets up to distance {max_distance}"
        raise fail(message, "use a multiple of 4, and a distance above a quarter of it")
    return Type(i32, (size, size))


@relative_buckets.reference
def _relative_buckets(*, size: int, num_buckets: int, max_distance: int) -> Array:
    distance = np.arange(1 - size, size)
    half, exact = num_buckets // 2, num_buckets // 4
    far = np.maximum(np.abs(distance), 1).astype(np.float32)  # HF rounds to float32, and so do we
    logarithm = np.log(far / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    series = exact + (logarithm * np.float32(half - exact)).astype(np.int32)
    bucket = np.where(np.abs(distance) < exact, np.abs(distance), np.minimum(series, half - 1))
    bucket = bucket + half * (distance > 0)
    positions = np.arange(size)
    return bucket[positions - positions[:, None] + size - 1].astype(np.int32)
