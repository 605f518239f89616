"""The weights of a plan as its kernels read them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlxflow.backends.cpu.constants import Constants
from rlxflow.backends.cpu.memory import aligned
from rlxflow.backends.cpu.plan import Constant
from rlxflow.backends.cpu.target import Target
from rlxflow.dtypes import Array

Pack = Callable[[Array, Array], None]  # weights [N, K], panels [N / panel, K, panel]


def prepare(constant: Constant, constants: Constants, target: Target, pack: Pack) -> Array:
    """The array of one constant: packed into panels, padded at the end, or as it is."""
    parts = [constants.read(v) for v in constant.values]
    if constant.form == "table":
        return parts[0].astype(np.float32, copy=False)
    whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
    whole = np.ascontiguousarray(whole, np.float32)
    if constant.form == "row":
        padded = aligned((whole.size + 2 * target.panel,))
        padded[: whole.size] = whole.ravel()
        return padded
    columns, depth = whole.shape
    panels = -(-columns // target.panel)
    # a tile prefetches beyond its panel; it reads no further
    packed = aligned((panels, depth, target.panel))
    if packed.size:
        pack(whole, packed)
    return packed
