"""The weight plan: what stages want, matched against file headers before any data is read."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from rlxflow.dtypes import DTYPES
from rlxflow.errors import MissingTensor, ShapeMismatch, UnsupportedFile, WeightsError, printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.causes import Findings, likely_cause, quantised
from rlxflow.weights.report import LoadReport, Mismatch, Tie
from rlxflow.weights.source import TensorInfo, WeightSource
from rlxflow.weights.views import RenamedWeights


@dataclass(frozen=True)
class WeightSpec:
    """One wanted tensor: its key and its shape in the HF layout (None = any size).

    `alternatives` are other keys it may be stored under. `tied_to` names the weight that this one *is* by
    the model's configuration; then it need not be stored. An `optional` weight may be absent.
    """

    key: str
    shape: tuple[int | None, ...]
    alternatives: tuple[str, ...] = ()
    tied_to: str | None = None
    optional: bool = False


def weight_specs(
    weights: Mapping[str, tuple[int | None, ...]] | Iterable[WeightSpec],
) -> tuple[WeightSpec, ...]:
    """Specs, given as such or as {key: shape}."""
    if isinstance(weights, Mapping):
        return tuple(WeightSpec(key, tuple(shape)) for key, shape in weights.items())
    return tuple(weights)


@dataclass(frozen=True)
class PlannedTensor:
    """Where a wanted tensor comes from: the source's key and its header entry."""

    key: str
    info: TensorInfo


@dataclass(frozen=True)
class WeightPlan:
    """Every wanted key with the tensor to read for it, or None for an optional one that is absent.

    Tied keys share one tensor. `report` says what was found.
    """

    tensors: Mapping[str, PlannedTensor | None]
    report: LoadReport

    @property
    def nbytes(self) -> int:
        """Stored bytes of all planned tensors, tied ones once."""
        return self.report.nbytes

    def view(self, source: WeightSource) -> RenamedWeights:
        """`source` under the wanted keys."""
        return RenamedWeights(source, {key: t.key for key, t in self.tensors.items() if t})

    def check_ties(self, source: WeightSource) -> None:
        """Read and compare the tied pairs that are both stored.

        Raises `WeightsError` (W037) where they differ: the configuration ties them, the files do not.
        """
        for tie in self.report.tied:
            planned = self.tensors[tie.key]
            if tie.found != "both" or planned is None:
                continue
            one, other = source.read(tie.stored), source.read(planned.key)
            same = one.shape == other.shape and one.dtype == other.dtype
            if not same or not np.array_equal(one.reshape(-1).view("u1"), other.reshape(-1).view("u1")):
                raise WeightsError(
                    f"{printable(tie.key)!r} is tied to {printable(tie.to)!r}, but two tensors are stored",
                    code="RLX-W037",
                    where=self.report.where,
                    hint="set tie_word_embeddings to false in config.json if the model was trained so",
                )


def plan_weights(
    specs: Iterable[WeightSpec],
    source: WeightSource,
    *,
    expected_unused: tuple[str, ...] = (),
    prefixes: tuple[str, ...] = ("",),
) -> WeightPlan:
    """Match `specs` with the headers of `source`; no tensor data is read.

    A wanted key is looked for under the prefix that most keys exist with, then as it is, then under its
    alternatives likewise. `expected_unused` are glob patterns of stored keys that may stay unused.

    Raises one error for everything that is wrong, its text the grouped report and `details["report"]` the
    whole of it: `MissingTensor` (W033), `ShapeMismatch` (W034), `UnsupportedFile` (W020 for a dtype, W035
    for a quantised checkpoint); before that `WeightsError` (W032) for specs that contradict each other.
    """
    wanted = _merge(specs)
    stored = dict.fromkeys(source.keys())
    prefix = max(prefixes, key=lambda p: sum(p + key in stored for key in wanted), default="")
    places = {key: _locate(spec, stored, prefix) for key, spec in wanted.items()}
    used = {place for place in places.values() if place}
    ties = _tie(wanted, places, stored, prefix)
    needed = dict.fromkeys(place for place in places.values() if place)
    infos, unreadable = _infos(needed, source)
    unused = [key for key in stored if key not in used and key not in needed]
    expected = _matcher(expected_unused, prefix)
    report = LoadReport(
        where=printable(getattr(source, "path", type(source).__name__)),
        wanted=len(wanted),
        found=sum(place is not None for place in places.values()),
        params=sum(math.prod(info.shape) for info in infos.values()),
        nbytes=sum(info.nbytes for info in infos.values()),
        prefix=prefix,
        missing=_missing(wanted, places),
        mismatched=_mismatches(wanted, places, infos),
        unreadable=tuple((key, unreadable[p]) for key, p in places.items() if p in unreadable),
        unexpected=tuple(key for key in unused if not expected(key)),
        ignored=tuple(key for key in unused if expected(key)),
        tied=ties,
        renamed=_renamed(places, ties, prefix),
        notes=tuple(getattr(source, "notes", ())),
    )
    findings = Findings(
        found=[key for key, place in places.items() if place],
        missing=report.missing,
        unused=report.unexpected,
        mismatched=[(m.key, m.wanted, m.found) for m in report.mismatched],
    )
    report = replace(report, cause=likely_cause(findings))
    if not report.ok or quantised(findings):
        raise _failure(report, quantised(findings) is not None)
    planned = {place: PlannedTensor(place, info) for place, info in infos.items()}
    return WeightPlan({key: planned[place] if place else None for key, place in places.items()}, report)


def _failure(report: LoadReport, is_quantised: bool) -> WeightsError:
    """One error for all problems of a report, its class that of the gravest."""
    counts = [
        (len(report.missing), "missing", MissingTensor, "RLX-W033"),
        (len(report.mismatched), "of another shape", ShapeMismatch, "RLX-W034"),
        (len(report.unreadable), "unreadable", UnsupportedFile, "RLX-W020"),
    ]
    found = [row for row in counts if row[0]]
    headline = ", ".join(f"{n} of {report.wanted} tensors {what}" for n, what, *_ in found)
    kind, code = (UnsupportedFile, "RLX-W035") if is_quantised else found[0][2:]
    lines = "\n  ".join([headline or "the weights are quantised", *report.problem_lines()])
    return kind(
        lines,
        code=code,
        where=report.where,
        hint=report.cause.hint if report.cause else "list what is stored with `rlxflow inspect`",
        details={"report": report.as_dict()},
    )


def _merge(specs: Iterable[WeightSpec]) -> dict[str, WeightSpec]:
    """Specs by key; identical ones are one wish."""
    wanted: dict[str, WeightSpec] = {}
    conflicts: list[str] = []
    for spec in specs:
        if wanted.setdefault(spec.key, spec) != spec:
            conflicts.append(spec.key)
    if conflicts:
        key = conflicts[0]
        others = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
        raise WeightsError(
            f"two stages want weight {printable(key)!r} differently{others}",
            code="RLX-W032",
            where=printable(key),
            hint="give both the same shape, alternatives and tie, or different keys",
            details={"keys": conflicts},
        )
    return wanted


def _locate(spec: WeightSpec, stored: Mapping[str, None], prefix: str) -> str | None:
    for key in (spec.key, *spec.alternatives):
        for place in (prefix + key, key):
            if place in stored:
                return place
    return None


def _tie(
    wanted: Mapping[str, WeightSpec], places: dict[str, str | None], stored: Mapping[str, None], prefix: str
) -> tuple[Tie, ...]:
    """Point tied weights in `places` at one stored tensor each, and say what was stored.

    Stored are: only the other one (the usual case), both, or only this one under its own name.
    """
    ties: list[Tie] = []
    for key, spec in wanted.items():
        to = spec.tied_to
        if to is None:
            continue
        here, there = places[key], places.get(to) or _locate(WeightSpec(to, ()), stored, prefix)
        if here and there and here != there:
            ties.append(Tie(key, to, "both", here))
        elif there:
            ties.append(Tie(key, to, "absent"))
        elif here and to in places:
            places[to] = here
            ties.append(Tie(key, to, "stored"))
        places[key] = there or here
    return tuple(ties)


def _infos(places: Iterable[str], source: WeightSource) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Header entries of the stored keys, and the reasons why some of them cannot be read."""
    infos: dict[str, TensorInfo] = {}
    unreadable: dict[str, str] = {}
    for place in places:
        try:
            infos[place] = source.info(place)
        except WeightsError as error:
            unreadable[place] = error.message
            continue
        if infos[place].dtype.name not in DTYPES:
            unreadable[place] = f"dtype {infos[place].dtype}"
    return infos, unreadable


def _missing(wanted: Mapping[str, WeightSpec], places: Mapping[str, str | None]) -> tuple[str, ...]:
    """Wanted keys without a place; of a tied pair only the one that the other is tied to."""
    return tuple(
        key
        for key, spec in wanted.items()
        if places[key] is None and not spec.optional and spec.tied_to not in wanted
    )


def _mismatches(
    wanted: Mapping[str, WeightSpec], places: Mapping[str, str | None], infos: Mapping[str, TensorInfo]
) -> tuple[Mismatch, ...]:
    found: list[Mismatch] = []
    for key, spec in wanted.items():
        info = infos.get(places[key] or "")
        if info is None:
            continue
        same_rank = len(info.shape) == len(spec.shape)
        if not same_rank or any(w not in (None, f) for w, f in zip(spec.shape, info.shape, strict=True)):
            found.append(Mismatch(key, spec.shape, info.shape))
    return tuple(found)


def _matcher(patterns: tuple[str, ...], prefix: str) -> Callable[[str], bool]:
    """Whether a stored key, with or without the prefix, matches one of the glob patterns."""
    if not patterns:
        return lambda key: False
    match = re.compile("|".join(f"(?:{fnmatch.translate(pattern)})" for pattern in patterns)).match
    return lambda key: bool(match(key) or match(key.removeprefix(prefix)))


def _renamed(
    places: Mapping[str, str | None], ties: tuple[Tie, ...], prefix: str
) -> tuple[tuple[str, str], ...]:
    """Wanted keys found under an alternative."""
    tied = {tie.key for tie in ties} | {tie.to for tie in ties if tie.found == "stored"}
    return tuple((k, p) for k, p in places.items() if p not in (None, k, prefix + k) and k not in tied)
