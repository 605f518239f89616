"""The rotary settings of a GGUF file in the `rope_parameters` spelling of Hugging Face configs."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlxflow import dtypes
from rlxflow.weights.gguf_values import CONVERT_AGAIN, GgufValues

_LIMIT = "the scaling cannot be expressed in a config; use the model's safetensors files"


def rope_parameters(
    values: GgufValues, head_dim: int, max_positions: int, default_theta: float = 10000.0
) -> dict[str, Any]:
    """`rope_type`, `rope_theta` and what the type needs (transformers' modeling_rope_utils).

    GGUF knows none, linear, yarn and longrope; llama3 is stored as a tensor of frequency divisors. Raises
    `ConfigError` for other types and for settings whose meaning differs between llama.cpp and HF.
    """
    parameters: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": values.number("rope.freq_base", default_theta),
    }
    rotary_dim = values.integer("rope.dimension_count", head_dim)
    if rotary_dim != head_dim:
        parameters["partial_rotary_factor"] = _partial(values, rotary_dim, head_dim)
    kind, factor = _kind(values)
    if kind == "linear":
        parameters |= {"rope_type": "linear", "factor": factor}
    elif kind == "yarn":
        parameters |= _yarn(values, factor)
    elif kind == "longrope" or values.has_tensor("rope_factors_long.weight"):  # Phi-3 names no type
        parameters |= _longrope(values, rotary_dim, max_positions)
    if values.has_tensor("rope_freqs.weight"):
        if kind != "none":
            values.fail("RLX-C044", f"rope_freqs.weight together with {kind} scaling", _LIMIT)
        divisors = _factors(values, "rope_freqs.weight", rotary_dim)
        parameters |= _same_for_all_lengths(divisors, max_positions)
    return parameters


def _kind(values: GgufValues) -> tuple[str, float]:
    """The scaling type and factor. llama.cpp takes a factor without a type as linear."""
    legacy = values.number("rope.scale_linear", 1.0)
    factor = values.number("rope.scaling.factor", legacy)
    kind = values.text("rope.scaling.type", "linear")
    if kind not in ("none", "linear", "yarn", "longrope"):
        values.fail("RLX-C044", f"unknown {values.name('rope.scaling.type')} {kind!r}", _LIMIT)
    if kind == "linear" and factor == 1.0:
        kind = "none"
    if kind in ("none", "longrope") and factor != 1.0:
        message = f"{values.name('rope.scaling.factor')} is {factor} with scaling type {kind}"
        values.fail("RLX-C043", message, _LIMIT)
    return kind, factor


def _partial(values: GgufValues, rotary_dim: int, head_dim: int) -> float:
    if rotary_dim > head_dim or rotary_dim % 2:
        message = f"{values.name('rope.dimension_count')} is {rotary_dim}, a head has {head_dim} elements"
        values.fail("RLX-C043", message, CONVERT_AGAIN)
    return rotary_dim / head_dim


def _yarn(values: GgufValues, factor: float) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": values.integer("rope.scaling.original_context_length"),
    }
    for name in ("beta_fast", "beta_slow"):
        if values.has(f"rope.scaling.yarn_{name}"):
            parameters[name] = values.number(f"rope.scaling.yarn_{name}")
    if values.number("rope.scaling.yarn_ext_factor", 1.0) != 1.0:
        values.fail("RLX-C044", f"{values.name('rope.scaling.yarn_ext_factor')} is not 1", _LIMIT)
    return parameters


def _longrope(values: GgufValues, rotary_dim: int, max_positions: int) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "long_factor": _factors(values, "rope_factors_long.weight", rotary_dim),
        "short_factor": _factors(values, "rope_factors_short.weight", rotary_dim),
        "original_max_position_embeddings": values.integer(
            "rope.scaling.original_context_length", max_positions
        ),
        "attention_factor": values.number("rope.scaling.attn_factor", 1.0),
    }


def _same_for_all_lengths(divisors: list[float], max_positions: int) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "long_factor": divisors,
        "short_factor": divisors,
        "original_max_position_embeddings": max_positions,
        "attention_factor": 1.0,
    }


def _factors(values: GgufValues, name: str, rotary_dim: int) -> list[float]:
    """A tensor of rotary_dim / 2 frequency divisors."""
    if not values.has_tensor(name):
        values.fail("RLX-C041", f"the GGUF file has no tensor {name!r}", _LIMIT)
    info = values.file.info(name)
    if info.dtype != dtypes.f32 or info.shape != (rotary_dim // 2,):
        message = f"tensor {name!r} is {info.dtype} {list(info.shape)}, not f32 [{rotary_dim // 2}]"
        values.fail("RLX-C043", message, CONVERT_AGAIN)
    data = values.file.read(name)
    if not (np.isfinite(data) & (data > 0)).all():
        values.fail("RLX-C042", f"tensor {name!r} has values that are not finite or not above zero", _LIMIT)
    return [float(str(value)) for value in data]
