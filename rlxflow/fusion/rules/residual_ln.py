"""FuseResidualLN: a residual add and the LayerNorm that alone reads it.

x, residual ─ add ─ layer_norm ─ y
"""

from __future__ import annotations

from rlxflow.fusion.rule import Rule
from rlxflow.ops.blocks import residual_layer_norm

RULE = Rule("fuse-residual-ln", residual_layer_norm)
