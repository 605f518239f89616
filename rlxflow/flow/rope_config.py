"""Rotary settings of a config, in the old spelling (`rope_scaling`) and the new (`rope_parameters`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlxflow.errors import ConfigError, GraphError, nearest, printable
from rlxflow.ir.attrs import freeze
from rlxflow.ops.rope_frequencies import KINDS, Scaling, inverse_frequencies

_SETTINGS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        *("factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow"),
        *("mscale", "mscale_all_dim", "truncate"),
    ),
    "longrope": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "short_factor",
        "long_factor",
    ),
}
_SHARED = ("rope_type", "type", "rope_theta", "partial_rotary_factor")


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """theta, rotary_dim = head_dim · partial factor, and the scaling as pairs for `RopeTablesStage`."""

    rotary_dim: int
    theta: float
    scaling: Scaling


def rope_config(
    *,
    head_dim: int,
    rope_theta: float | None,
    rope_scaling: Mapping[str, Any] | None,
    rope_parameters: Mapping[str, Any] | None,
    max_position_embeddings: int,
    original_max_position_embeddings: int | None = None,
    partial_rotary_factor: float | None = None,
) -> RopeConfig:
    """One meaning from both spellings; raises `ConfigError` where they conflict or give no base."""
    settings = dict(rope_parameters or {})
    for name, value in (rope_scaling or {}).items():
        _merge(settings, name, value, "rope_scaling")
    _merge(settings, "rope_theta", rope_theta, "the config")
    _merge(settings, "partial_rotary_factor", partial_rotary_factor, "the config")
    kind = settings.get("rope_type") or settings.get("type") or "default"
    if kind not in KINDS:
        hint = nearest(str(kind), KINDS) or f"supported: {', '.join(KINDS)}"
        raise _error("RLX-C006", f"unknown rope type {printable(kind)!r}", hint)
    unknown = sorted(set(settings) - set(_SHARED) - {n for names in _SETTINGS.values() for n in names})
    if unknown:
        raise _error("RLX-C003", f"rope settings not understood: {', '.join(map(printable, unknown))}")
    theta = settings.get("rope_theta")
    if theta is None:
        raise _error(
            "RLX-C007", "no rope_theta", "add it to rope_parameters: the rotary base is never guessed"
        )
    theta = _positive("rope_theta", theta)
    partial = _positive("partial_rotary_factor", settings.get("partial_rotary_factor", 1.0))
    rotary_dim = int(head_dim * partial)
    if rotary_dim % 2 or rotary_dim > head_dim or rotary_dim == 0:
        raise _error(
            "RLX-C008",
            f"rotary_dim {rotary_dim} of head_dim {head_dim}",
            "it must be even and at most head_dim",
        )
    scaling = _scaling(kind, settings, max_position_embeddings, original_max_position_embeddings)
    try:
        inverse_frequencies(rotary_dim, theta, scaling, 1)
    except (GraphError, ArithmeticError, ValueError, TypeError) as error:
        raise _error(
            "RLX-C008", f"rope type {kind!r}: {printable(error)}", "check rope_parameters"
        ) from error
    return RopeConfig(rotary_dim, theta, scaling)


def _scaling(kind: str, settings: dict[str, Any], max_positions: int, original: int | None) -> Scaling:
    """Only the settings the kind reads, with Hugging Face's defaults for the context sizes."""
    if kind == "default":
        return ()
    names = _SETTINGS[kind]
    used = {n: settings[n] for n in names if settings.get(n) is not None}
    if "original_max_position_embeddings" in names:
        if kind == "dynamic":
            used["original_max_position_embeddings"] = max_positions
        else:
            used.setdefault("original_max_position_embeddings", original or max_positions)
    if kind == "longrope" and original:
        used["factor"] = max_positions / original
    if kind in ("yarn", "longrope") and "factor" not in used:
        used["factor"] = max_positions / used["original_max_position_embeddings"]
    for name, value in used.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            used[name] = value if isinstance(value, int) else _positive(name, value)
            _positive(name, value)
    frozen: Scaling = freeze({"rope_type": kind, **used})
    return frozen


def _merge(settings: dict[str, Any], name: str, value: Any, where: str) -> None:
    if value is None:
        return
    if settings.get(name, value) != value:
        shown = f"{printable(settings[name], 40)} in rope_parameters, {printable(value, 40)} in {where}"
        raise _error(
            "RLX-C009", f"{printable(name)} is given twice: {shown}", "keep one of the two spellings"
        )
    settings[name] = value


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e30:
        raise _error("RLX-C008", f"{name} is {printable(value, 40)}", "it must be a positive number")
    return float(value)


def _error(
    code: str, message: str, hint: str = "they may change the numbers, so nothing is loaded"
) -> ConfigError:
    return ConfigError(message, code=code, where="rope_parameters", hint=hint)
