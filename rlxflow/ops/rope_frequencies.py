"""Inverse frequencies of rotary embeddings, for every scaling kind (HF `modeling_rope_utils`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import GraphError, nearest, printable

# sorted (name, value) pairs; "rope_type" names the kind, absent or "default" means no scaling
Scaling: TypeAlias = tuple[tuple[str, Any], ...]
MAX_ROTARY_DIM = 65536
Kind: TypeAlias = Callable[[int, float, Mapping[str, Any], int], tuple[Array, float]]


def inverse_frequencies(rotary_dim: int, theta: float, scaling: Scaling, length: int) -> tuple[Array, float]:
    """(f [rotary_dim/2] float64, attention factor).

    Without scaling f_i = theta^(−2i / rotary_dim) and the factor is 1. `length` is the number of tokens of
    the sequence so far; the kinds dynamic and longrope depend on it. Raises `GraphError` for an unknown kind,
    a missing setting, or one that gives no finite positive frequency.
    """
    if not 0 < rotary_dim <= MAX_ROTARY_DIM or rotary_dim % 2:
        raise GraphError(
            f"rotary_dim is {rotary_dim}",
            code="RLX-I021",
            hint=f"give an even number from 2 to {MAX_ROTARY_DIM}, at most head_dim",
        )
    settings = dict(scaling)
    kind = str(settings.get("rope_type", "default"))
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise GraphError(
            f"unknown rope type {kind!r}", code="RLX-I020", hint=nearest(kind, KINDS) or f"known: {known}"
        )
    try:
        with np.errstate(all="ignore"):  # what comes out is checked
            frequencies, factor = KINDS[kind](rotary_dim, theta, settings, length)
        if not (np.isfinite(frequencies).all() and (frequencies > 0).all() and 0 < factor < math.inf):
            raise ValueError("frequencies must be finite and positive")
        return frequencies, factor
    except (TypeError, ValueError, ArithmeticError) as error:
        raise GraphError(
            f"rope type {kind!r} with theta {theta}: {printable(error)}",
            code="RLX-I021",
            hint="check rope_theta and rope_parameters",
        ) from error
    except KeyError as error:
        raise GraphError(
            f"rope type {kind!r} needs {error.args[0]!r}", code="RLX-I021", hint="add it to rope_parameters"
        ) from error


def _base(rotary_dim: int, theta: float) -> Array:
    return np.asarray(1.0 / theta ** (np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim))


def _default(rotary_dim: int, theta: float, s: Mapping[str, Any], length: int) -> tuple[Array, float]:
    return _base(rotary_dim, theta), 1.0


def _linear(rotary_dim: int, theta: float, s: Mapping[str, Any], length: int) -> tuple[Array, float]:
    """Position interpolation: f / factor."""
    return _base(rotary_dim, theta) / s["factor"], 1.0


def _dynamic(rotary_dim: int, theta: float, s: Mapping[str, Any], length: int) -> tuple[Array, float]:
    """Dynamic NTK: beyond the original context the base grows with the length."""
    original = s["original_max_position_embeddings"]
    n = max(length, original)
    grown = theta * ((s["factor"] * n / original) - (s["factor"] - 1)) ** (rotary_dim / (rotary_dim - 2))
    return _base(rotary_dim, grown), 1.0


def _llama3(rotary_dim: int, theta: float, s: Mapping[str, Any], length: int) -> tuple[Array, float]:
    """Llama 3.1: short wavelengths kept, long ones divided by `factor`, a smooth ramp between."""
    f = _base(rotary_dim, theta)
    original = s["original_max_position_embeddings"]
    wavelength = 2 * math.pi / f
    low, high = s["low_freq_factor"], s["high_freq_factor"]
    ramp = (original / wavelength - low) / (high - low)
    smooth = (1 - ramp) * f / s["factor"] + ramp * f
    scaled = np.where(wavelength > original / low, f / s["factor"], f)
    between = (wavelength <= original / low) & (wavelength >= original / high)
    return np.where(between, smooth, scaled), 1.0


def _yarn(rotary_dim: int, theta: float, s: Mapping[str, Any], length: int) -> tuple[Array, float]:
    """YaRN (arXiv 2309.00071): interpolate slow channels, keep fast ones, and scale attention."""
    factor = s["factor"]
    original = s["original_max_position_embeddings"]

    def correction_dim(rotations: float) -> float:
        return rotary_dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = correction_dim(s.get("beta_fast") or 32), correction_dim(s.get("beta_slow") or 1)
    if s.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    high += 0.001 if low == high else 0
    keep = 1 - np.clip((np.arange(rotary_dim // 2, dtype=np.float64) - low) / (high - low), 0, 1)
    f = _base(rotary_dim, theta)
    return f / factor * (1 - keep) + f * keep, _yarn_factor(s, factor)


def _yarn_factor(s: Mapping[str, Any], factor: float) -> float:
    def mscale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if s.get("attention_factor") is not None:
        return float(s["attention_factor"])
    if s.get("mscale") and s.get("mscale_all_dim"):
        return mscale(s["mscale"]) / mscale(s["mscale_all_dim"])
    return mscale(1.0)


def _longrope(rotary_dim: int, theta: float, s: Mapping[str, Any], length: int) -> tuple[Array, float]:
    """LongRoPE (arXiv 2402.13753): per-channel factors, one list up to the original context, one beyond."""
    original = s["original_max_position_embeddings"]
    factors = np.asarray(s["long_factor"] if length > original else s["short_factor"], np.float64)
    if factors.shape != (rotary_dim // 2,):
        raise GraphError(
            f"longrope has {factors.size} factors for {rotary_dim // 2} channel pairs",
            code="RLX-I021",
            hint="check long_factor and short_factor",
        )
    attention = s.get("attention_factor")
    if attention is None:
        factor = s["factor"]
        attention = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return _base(rotary_dim, theta) / factors, float(attention)


KINDS: dict[str, Kind] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
