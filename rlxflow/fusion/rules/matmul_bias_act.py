"""FuseMatMulBiasAct: act(x · wᵀ + b), biasless with an activation too.

x ─ linear ─ [add bias] ─ [activation] ─ y
"""

from __future__ import annotations

from rlxflow.fusion.rule import Rule
from rlxflow.ops.blocks import matmul_bias_act

RULE = Rule("fuse-matmul-bias-act", matmul_bias_act)
