"""The private memory that a thread needs beside the buffers of a plan."""

from __future__ import annotations

from rlxflow.backends.cpu.kernels import attention, gemm, row_values
from rlxflow.backends.cpu.kernels.attention import Attention
from rlxflow.backends.cpu.kernels.cached_attention import CachedAttention, scratch_floats
from rlxflow.backends.cpu.kernels.gemm import Gemm
from rlxflow.backends.cpu.kernels.rows import Rows
from rlxflow.backends.cpu.plan import Plan
from rlxflow.backends.cpu.target import Target


class Scratch:
    """How much scratch a thread needs for a plan."""

    def __init__(self, plan: Plan, target: Target) -> None:
        kernels = {s.kernel for s in plan.steps}
        self._target = target
        self._attentions = [k for k in kernels if isinstance(k, Attention)]
        rows = [k.expression for k in kernels if isinstance(k, Rows)]
        cached = [scratch_floats(k, target) for k in kernels if isinstance(k, CachedAttention)]
        products = [gemm.scratch_floats(k, target) for k in kernels if isinstance(k, Gemm)]
        self._fixed = max(
            [*cached, *products, *(row_values.scratch_floats(e, target.row_stride) for e in rows)], default=0
        )

    def floats(self, longest: int) -> int:
        """For sequences of up to `longest` tokens."""
        target = self._target
        sizes = [
            attention.scratch_floats(a, target.query_rows, target.lanes, longest) for a in self._attentions
        ]
        return max(self._fixed, *sizes, 1)
