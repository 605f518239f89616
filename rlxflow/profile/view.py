"""What a profile amounts to: every value with its origin, and which ones change nothing here."""

from __future__ import annotations

from typing import Any

from rlxflow.profile.keys import find_key
from rlxflow.profile.kinds import BackendKind
from rlxflow.profile.model import CompileProfile
from rlxflow.profile.origins import Origin
from rlxflow.profile.write import toml_literal
from rlxflow.quick_dataclass import dataclass

_NO_METAL = "there is no Metal backend"
_LESS = ("precision.compute", "precision.mixed", "precision.paired_products")
_REFERENCE_F32 = "the reference backend computes in f32"

# Keys whose value nothing acts on, with the reason: a row goes when the reader of its key arrives.
_WITHOUT_EFFECT = {
    "fusion.target": "the pipeline follows the backend",
    "passes.dce": "a graph never holds a dead node",
    "backend.metal.skip_fusion": _NO_METAL,
    "backend.metal.unfuse_regions": _NO_METAL,
}
_NEEDS_FUSION = ("fusion.target", "fusion.attention_threshold", "passes.rules.", "passes.max_tokens.")


@dataclass(frozen=True)
class EffectiveValue:
    """One value as it will be used: key, value, origin, and why it changes nothing ("" where it does)."""

    key: str
    value: bool | int | float | str
    origin: Origin
    without_effect: str


def effective(profile: CompileProfile) -> tuple[EffectiveValue, ...]:
    """Every value of the profile, in the order of the documentation."""
    return tuple(
        EffectiveValue(key, value, profile.origin(key), _without_effect(profile, key, value))
        for key, value in profile.values().items()
    )


def _without_effect(profile: CompileProfile, key: str, value: object) -> str:
    """The reason why a value that asks for something gets nothing; a default asks for nothing."""
    known = find_key(key)
    if known is not None and value == known.default and not key.startswith("backend.metal."):
        return ""
    if profile.fusion.skip and key.startswith(_NEEDS_FUSION):
        return "fusion.skip is true"
    if profile.backend.name is BackendKind.REFERENCE and key in _LESS:
        return _REFERENCE_F32
    return _WITHOUT_EFFECT.get(key, "")


def effective_dict(profile: CompileProfile) -> dict[str, Any]:
    """The effective view as JSON-able data: source, hash, exact, trades, and per key value and origin."""
    return {
        "source": profile.source,
        "hash": profile.hash(),
        "exact": profile.exact,
        "trades": list(profile.trades()),
        "values": {
            entry.key: {
                "value": entry.value,
                "origin": entry.origin.kind.value,
                "where": entry.origin.where,
                "without_effect": entry.without_effect,
            }
            for entry in effective(profile)
        },
    }


def effective_text(profile: CompileProfile) -> str:
    """The effective view as a table, one key per line, ended by what the profile trades."""
    entries = effective(profile)
    rows = [(entry.key, toml_literal(entry.value), str(entry.origin)) for entry in entries]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [f"profile  {profile.source or 'made in Python'}   hash {profile.hash()}"]
    for entry, row in zip(entries, rows, strict=True):
        note = f"without effect: {entry.without_effect}" if entry.without_effect else ""
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join((*cells, note)).rstrip())
    lines += [f"trades   {trade}" for trade in profile.trades() or ("nothing: f32, no activation quantised",)]
    return "\n".join(lines)
