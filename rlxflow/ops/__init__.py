"""The vocabulary: importing this package fills the op table."""

from rlxflow.ops import (
    activation,
    attention,
    blocks,
    cache,
    delta_rule,
    elementwise,
    leaves,
    linear,
    norm,
    pooling,
    reduce,
    region,
    relative,
    resize,
    rope,
    shape,
)

__all__ = [
    "activation",
    "attention",
    "blocks",
    "cache",
    "delta_rule",
    "elementwise",
    "leaves",
    "linear",
    "norm",
    "pooling",
    "reduce",
    "region",
    "relative",
    "resize",
    "rope",
    "shape",
]
