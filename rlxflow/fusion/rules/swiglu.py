"""FuseSwiGLU: the whole gated feed-forward, with any activation.

x ┬ linear(gate) ─ act ┐
  └ linear(up) ────────┴ mul ─ linear(down) ─ y
"""

from __future__ import annotations

from rlxflow.fusion.rule import Rule
from rlxflow.ops.blocks import gated_mlp

RULE = Rule("fuse-swiglu", gated_mlp)
