"""Weights of tiny random models: one function of (key, shape, seed), the same bits on every machine.

Goldens hold a config, inputs and outputs only. The scripts that made them and the tests that read them both
draw the weights here, so no checkpoint is stored. Every tensor, norms and biases included, is large enough
that leaving it out, or mistaking it for another, shows in the output.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float32]]

LINEAR_GAIN = 1.5
"""Standard deviation of a linear layer's output for inputs of variance one."""


def tiny_tensor(key: str, shape: Sequence[int], seed: int = 0) -> FloatArray:
    """The tensor named `key` (a Hugging Face parameter name) of a tiny model.

    The draw depends on the role that the name tells:

    - norm weights: 1 ± d with d in [0.05, 0.3], so never exactly 1;
    - biases: uniform in [-0.5, 0.5];
    - embeddings: variance 1;
    - every other weight `[..., in]`: variance LINEAR_GAIN² / in.

    Draws are uniform and made from raw PCG64 output by exact arithmetic: NumPy promises that stream, but not
    the one of its normal distribution, to stay the same across versions.
    """
    shape = tuple(shape)
    unit = _uniform(f"{seed}|{key}|{shape}", shape)
    role = key.lower()
    if role.endswith(".bias"):
        value = 0.5 * unit
    elif "norm" in role:
        value = 1.0 + np.where(unit < 0, -0.05, 0.05) + 0.25 * unit
    elif "embed" in role:
        value = np.sqrt(3.0) * unit
    else:
        value = np.sqrt(3.0) * LINEAR_GAIN / np.sqrt(shape[-1]) * unit
    return value.astype(np.float32)


def tiny_weights(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, FloatArray]:
    """`tiny_tensor` for each key of `shapes`."""
    return {key: tiny_tensor(key, shape, seed) for key, shape in shapes.items()}


def tiny_images(name: str, shape: Sequence[int]) -> FloatArray:
    """Images of noise in [-0.05, 0.05), named like the case they belong to."""
    return (0.05 * _uniform(f"images|{name}|{tuple(shape)}", tuple(shape))).astype(np.float32)


def _uniform(text: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Uniform float64 in [-1, 1), drawn from a stream that `text` names."""
    state = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    bits = np.random.PCG64(state).random_raw(int(np.prod(shape, dtype=np.int64)))
    return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0).reshape(shape)
