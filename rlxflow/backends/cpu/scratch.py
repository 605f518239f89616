"""The private memory that a thread needs beside the buffers of a plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rlxflow.backends.cpu.target import Target
from rlxflow.quick_dataclass import dataclass

if TYPE_CHECKING:
    from rlxflow.backends.cpu.plan import Kernel


@dataclass(frozen=True)
class Scratch:
    """Floats that a thread needs for a plan: `fixed`, or so many `per_token`, in whole vectors of tokens."""

    fixed: int
    per_token: int
    lanes: int

    def floats(self, longest: int) -> int:
        """For sequences of up to `longest` tokens."""
        return max(self.fixed, self.per_token * -(-longest // self.lanes) * self.lanes, 1)


def scratch_of(kernels: Iterable[Kernel], target: Target) -> Scratch:
    """What the kernels of a plan need, who run one after the other."""
    from rlxflow.backends.cpu.kernels import attention, cached_attention, gemm, rows

    fixed = per_token = 0
    for kernel in dict.fromkeys(kernels):
        if isinstance(kernel, attention.Attention):
            per_token = max(per_token, attention.scratch_per_token(kernel, target.query_rows))
            fixed = max(fixed, attention.scratch_floats(kernel, target))
        elif isinstance(kernel, cached_attention.CachedAttention):
            fixed = max(fixed, cached_attention.scratch_floats(kernel, target))
        elif isinstance(kernel, gemm.Gemm):
            fixed = max(fixed, gemm.scratch_floats(kernel, target))
        elif isinstance(kernel, rows.Rows):
            fixed = max(fixed, rows.scratch_floats(kernel, target.row_stride))
    return Scratch(fixed, per_token, target.lanes)
