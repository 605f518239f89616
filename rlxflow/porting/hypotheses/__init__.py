"""Hypotheses about a difference: each changes a region in one way and looks whether that explains it.

One function per hypothesis; a new one is a line in `HYPOTHESES`. It yields every variant it tried.
"""

from __future__ import annotations

from rlxflow.porting.hypotheses import activation, arithmetic, attention, linear, norm, rope
from rlxflow.porting.hypotheses.cause import Cause, Hypothesis

HYPOTHESES: tuple[Hypothesis, ...] = (
    *(rope.pairing, rope.theta, rope.scaling, rope.part, rope.absence, rope.positions),
    *(attention.mask, attention.window, attention.scale, attention.softcap, attention.grouping),
    *(norm.offset, norm.eps, norm.kind, norm.weight, norm.place),
    *(activation.flavour, activation.gate),
    *(
        linear.transposed,
        linear.permuted,
        linear.other_tensor,
        linear.other_rows,
        linear.bias,
        linear.table_rows,
    ),
    *(arithmetic.factor, arithmetic.sums, arithmetic.cap),
)

__all__ = ["HYPOTHESES", "Cause", "Hypothesis"]
