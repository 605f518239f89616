"""`LoadReport`: what a weight plan found, in one screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rlxflow.errors import printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.causes import Cause
from rlxflow.weights.key_groups import group_keys

MAX_LINES = 5
"""Lines per kind of finding; the rest is counted."""


@dataclass(frozen=True)
class Mismatch:
    """A tensor of another shape than wanted (None = any size)."""

    key: str
    wanted: tuple[int | None, ...]
    found: tuple[int, ...]


@dataclass(frozen=True)
class Tie:
    """A weight that is another one by the model's configuration.

    `found` says what the files hold: "absent" (only `to` is stored), "stored" (only `key` is stored), or
    "both" (two tensors, `stored` being the file's key of this one; they ought to be equal, which
    `WeightPlan.check_ties` tells).
    """

    key: str
    to: str
    found: str
    stored: str = ""

    def __str__(self) -> str:
        notes = {
            "absent": "absent from the files",
            "stored": "stored under the first name only",
            "both": "both stored",
        }
        return f"{printable(self.key)} <- {printable(self.to)}  ({notes[self.found]})"


@dataclass(frozen=True)
class LoadReport:
    """What was wanted, what was found, and what to think of the difference.

    `found` of `wanted` tensors are there, with `params` elements in `nbytes` stored bytes (tied ones once).
    `missing`, `mismatched` and `unreadable` are errors; `unexpected` are tensors that nothing uses and
    nobody announced, `ignored` those the recipe expects to leave unused. `renamed` pairs each wanted key with
    the alternative it was found under. `cast` counts tensors per stored dtype and
    the one they are kept in.
    """

    where: str
    wanted: int
    found: int = 0
    params: int = 0
    nbytes: int = 0
    prefix: str = ""
    missing: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    unexpected: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    tied: tuple[Tie, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    cast: tuple[tuple[str, str, int], ...] = ()
    notes: tuple[str, ...] = ()
    cause: Cause | None = None

    @property
    def ok(self) -> bool:
        """True where every wanted tensor is there, readable and of the right shape."""
        return not (self.missing or self.mismatched or self.unreadable)

    def with_cast(self, counts: Mapping[tuple[str, str], int]) -> LoadReport:
        """The report with the number of tensors per (stored dtype, kept dtype)."""
        return replace(self, cast=tuple((old, new, n) for (old, new), n in counts.items() if old != new))

    def problem_lines(self) -> list[str]:
        """What is wrong, grouped, and the likely cause."""
        lines = _lines("missing", self.missing)
        shapes: dict[str, list[str]] = {}
        for m in self.mismatched:
            shapes.setdefault(f"wanted {_shape(m.wanted)}, found {_shape(m.found)}", []).append(m.key)
        lines += _capped("shape", [f"{g}  {text}" for text, keys in shapes.items() for g in group_keys(keys)])
        reasons: dict[str, list[str]] = {}
        for key, reason in self.unreadable:
            reasons.setdefault(reason, []).append(key)
        lines += _capped("unreadable", [f"{g}  {r}" for r, keys in reasons.items() for g in group_keys(keys)])
        lines += _lines("unexpected", self.unexpected)
        if self.cause:
            lines.append(_line("likely", self.cause.text))
        return lines

    def __str__(self) -> str:
        size = f"{_scaled(self.params).strip()} parameters, {_scaled(self.nbytes)}B"
        lines = [_line("weights", f"{self.found} of {self.wanted} tensors, {size}   {self.where}")]
        if self.prefix:
            lines.append(_line("prefix", f'"{printable(self.prefix)}" stands in front of the keys'))
        lines += _capped("tied", [str(tie) for tie in self.tied])
        lines += _capped("renamed", [f"{printable(a)} <- {printable(b)}" for a, b in self.renamed])
        lines += _capped("cast", [f"{n} tensors {old} -> {new}" for old, new, n in self.cast])
        lines += _lines("unused", self.ignored, "  (expected)")
        lines += self.problem_lines()
        lines += _capped("note", [printable(note) for note in self.notes])
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able data, every key listed."""
        return {
            "where": self.where,
            "wanted": self.wanted,
            "found": self.found,
            "params": self.params,
            "nbytes": self.nbytes,
            "prefix": self.prefix,
            "missing": list(self.missing),
            "mismatched": [
                {"key": m.key, "wanted": list(m.wanted), "found": list(m.found)} for m in self.mismatched
            ],
            "unreadable": [{"key": key, "reason": reason} for key, reason in self.unreadable],
            "unexpected": list(self.unexpected),
            "ignored": list(self.ignored),
            "tied": [{"key": t.key, "to": t.to, "found": t.found} for t in self.tied],
            "renamed": [{"key": key, "stored": stored} for key, stored in self.renamed],
            "cast": [{"from": old, "to": new, "tensors": n} for old, new, n in self.cast],
            "notes": list(self.notes),
            "cause": {"text": self.cause.text, "hint": self.cause.hint} if self.cause else None,
        }


def _line(label: str, text: str) -> str:
    return f"{label:<12}{text}"


def _lines(label: str, keys: Iterable[str], suffix: str = "") -> list[str]:
    return _capped(label, [f"{group}{suffix}" for group in group_keys(keys)])


def _capped(label: str, texts: list[str]) -> list[str]:
    shown = [_line(label if i == 0 else "", text) for i, text in enumerate(texts[:MAX_LINES])]
    if len(texts) > MAX_LINES:
        shown.append(_line("", f"… and {len(texts) - MAX_LINES} more groups"))
    return shown


def _shape(shape: Iterable[int | None]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"


def _scaled(count: int) -> str:
    """1.72 G for 1,720,000,000."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} "
