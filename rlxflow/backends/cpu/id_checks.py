"""Ids and indices are checked before any kernel follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rlxflow.backends.cpu.plan import GatherCheck
from rlxflow.backends.cpu.ragged import Ragged
from rlxflow.dtypes import Array
from rlxflow.errors import InputError
from rlxflow.ir.values import Value

UNSIGNED = {4: np.uint32, 8: np.uint64}


def check_ids(
    checks: Sequence[GatherCheck],
    bits: int,
    inputs: Mapping[str, Array],
    made: Mapping[Value, Array],
    ragged: Ragged,
) -> None:
    """Raise `InputError` for an id of a valid token or sequence that leaves its table."""
    for check in checks:
        if not check.outputs & bits:
            continue
        if isinstance(check.ids, str):
            ids = inputs[check.ids]
            if ragged.padded:
                ids = ids.ravel()[ragged.source if check.per_token else ragged.batch_row]
        else:
            ids = made[check.ids]
        rows = check.rows
        if rows and np.maximum.reduce(ids.view(f"u{ids.itemsize}"), axis=None, initial=0) < rows:
            continue  # negative ones are very large
        if not rows:  # the tokens of each sequence
            lengths = np.diff(ragged.offsets)
            fits = ids.min() >= 0 and (ids < lengths).all()
            rows = ragged.longest if fits else int(lengths.min())
        if ids.view(UNSIGNED[ids.itemsize]).max() >= rows:  # a negative id is a large one
            low, high = int(ids.min()), int(ids.max())
            message = f"id {low if low < 0 else high} is outside a table of {rows} rows"
            raise InputError(message, code="RLX-R001", hint=f"ids run from 0 to {rows - 1}")
