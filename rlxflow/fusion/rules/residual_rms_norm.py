"""FuseResidualRmsNorm: a residual add and an RMSNorm of it; the sum stays a result.

x, residual ─ add ┬ rms_norm ─ y
                  └ sum
"""

from __future__ import annotations

from rlxflow.fusion.rule import Rule
from rlxflow.ops.blocks import residual_rms_norm

RULE = Rule("fuse-residual-rms-norm", residual_rms_norm)
