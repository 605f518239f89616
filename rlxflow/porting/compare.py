"""Compare a model with a recorded run of the original: the first stage that differs, and what explains it.

Both see the same inputs. Every activation that the reference recorded is an anchor in our graph. The program,
compiled by the profile asked for, tells how far each anchor is off from end to end; then each part of the
graph between anchors is run by itself from the *reference's* activations, which tells whose error it is. The
first part that is wrong by itself is named, and run again under every hypothesis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import InputError
from rlxflow.flow.built import BuiltModel
from rlxflow.flow.config import RecipeConfig
from rlxflow.flow.lowering import is_block
from rlxflow.flow.vision_config import VisionConfig
from rlxflow.ir.builder import rebuild
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Value
from rlxflow.porting.activations import Activations
from rlxflow.porting.anchors import Anchor, find_anchors, missing_modules
from rlxflow.porting.hypotheses import HYPOTHESES, Cause
from rlxflow.porting.region import Region, cut_out, relative_error
from rlxflow.porting.signature import signature
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.inputs import complete

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile

TOLERANCE = 2e-5
DRIFT = 10  # times the tolerance that rounding may add up to from end to end
MOST_CAUSES = 3


@dataclass(frozen=True)
class Row:
    """One anchor: where it is, its error from end to end, and its own error given exact operands."""

    module: str
    stage: str
    error: float
    own_error: float


@dataclass(frozen=True)
class Difference:
    """The first part that is wrong by itself.

    `ops` are what it computes, from the recorded `inputs`; `explained` says whether the first of `causes`
    leaves an error within tolerance.
    """

    module: str
    stage: str
    error: float
    ops: tuple[str, ...]
    inputs: tuple[str, ...]
    signature: tuple[str, ...]
    causes: tuple[Cause, ...]
    explained: bool


@dataclass(frozen=True)
class Comparison:
    """All anchors in the order of the graph; `difference` is None where every part is right by itself.

    `missing` are modules of ours that the reference did not record. `drift` is the first anchor that from end
    to end is off by more than ten times the tolerance, whoever's error that is: rounding adds up.
    """

    rows: tuple[Row, ...]
    tolerance: float
    difference: Difference | None
    drift: Row | None
    missing: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        return self.difference is None and self.drift is None

    def as_dict(self) -> dict[str, Any]:
        return {"agrees": self.agrees, **asdict(self)}


def compare(
    built: BuiltModel,
    reference: Activations,
    profile: str | CompileProfile | None = None,
    tolerance: float = TOLERANCE,
    config: RecipeConfig | None = None,
) -> Comparison:
    """Raises `InputError` (R092) where no module of the reference is in the model, or inputs do not fit.

    `config` tells how the pixels of an image become patches.
    """
    if isinstance(config, VisionConfig) and "pixel_values" in reference.inputs:
        from rlxflow.runtime.images import patches_of

        reference = replace(reference, inputs=patches_of(config, reference.inputs))
    return _Comparer(built, reference, tolerance).run(profile)


class _Comparer:
    def __init__(self, built: BuiltModel, reference: Activations, tolerance: float) -> None:
        self.graph = rebuild(built.graph, is_block)
        self.built = replace(built, graph=self.graph)
        self.reference, self.tolerance = reference, tolerance
        self.inputs = _inputs(built, reference)
        self.sizes = _sizes(self.graph, self.inputs)
        self.valid = reference.valid
        self.anchors = find_anchors(self.graph, built.plan, reference, self.sizes)
        if all(a.side == "output" for a in self.anchors):
            shown = ", ".join(list(reference.modules)[:3])
            raise InputError(
                f"no module of the reference is in the model; it has {shown}, …",
                code="RLX-R092",
                where=built.flow.name,
                hint="record the same model that is compared",
            )

    def run(self, profile: str | CompileProfile | None) -> Comparison:
        errors = self._end_to_end(profile)
        rows, wrong = [], None
        for anchor, error in zip(self.anchors, errors, strict=True):
            region = self._region(anchor)
            own = region.error(region.run())
            rows.append(Row(anchor.name, self._stage(anchor.value), error, own))
            if wrong is None and own > self.tolerance:
                wrong = self._difference(anchor, region, own)
        drift = next((row for row in rows if row.error > DRIFT * self.tolerance), None)
        missing = missing_modules(self.built.plan, self.reference)
        return Comparison(tuple(rows), self.tolerance, wrong, drift, missing)

    @cached_property
    def known(self) -> Mapping[Value, Array]:
        given = {self.graph.inputs[name]: array for name, array in self.inputs.items()}
        return {**given, **{a.value: a.expected for a in self.anchors}}

    def _end_to_end(self, profile: str | CompileProfile | None) -> list[float]:
        """The error of each anchor, of the compiled program."""
        taps = {f"anchor {i}": a.value for i, a in enumerate(self.anchors)}
        tapped = replace(self.built, graph=replace(self.graph, outputs=taps), expected=None)
        program = tapped.compile(profile)
        state = program.new_state(self.sizes["B"], self.sizes["S"]) if self.graph.states else None
        found = program(self.inputs, state)
        return [
            relative_error(found[name], a.expected, self.valid)
            for name, a in zip(taps, self.anchors, strict=True)
        ]

    def _region(self, anchor: Anchor) -> Region:
        region = cut_out(
            self.graph,
            anchor.value,
            anchor.expected,
            self.known,
            valid=self.valid,
            sizes=self.sizes,
            source=self.built.weights,
            stored=self.built.source,
        )
        if anchor.before is None:
            return region
        return replace(region, nodes=(), given={anchor.value: anchor.before})  # we do nothing in between

    def _difference(self, anchor: Anchor, region: Region, error: float) -> Difference:
        causes = _causes(region, error, self.tolerance)
        names = {a.value: a.name for a in self.anchors}
        recorded = [names[v] for v in region.given if v in names]
        quiet = ("param", "input", "state", "full", "iota", "constant", "reshape")
        return Difference(
            anchor.name,
            self._stage(anchor.value),
            error,
            tuple(dict.fromkeys(n.op.name for n in region.nodes if n.op.name not in quiet)),
            tuple(recorded or [f"input {v.node.attrs.get('key', '')}" for v in region.given]),
            signature(region.run(), anchor.expected, self.valid, self.tolerance),
            causes,
            bool(causes) and causes[0].error <= self.tolerance,
        )

    def _stage(self, value: Value) -> str:
        return self.graph.where(value.node)


def _causes(region: Region, error: float, tolerance: float) -> tuple[Cause, ...]:
    """The best variant of each kind: those that explain all of the error, or else those that explain most."""
    best: dict[str, Cause] = {}
    for hypothesis in HYPOTHESES:
        for cause in hypothesis(region):
            if cause.kind not in best or cause.error < best[cause.kind].error:
                best[cause.kind] = cause
    ordered = sorted(best.values(), key=lambda c: c.error)
    explaining = [c for c in ordered if c.error <= tolerance]
    helping = [c for c in ordered if c.error <= error / 4]
    return tuple((explaining or helping)[:MOST_CAUSES])


def _inputs(built: BuiltModel, reference: Activations) -> dict[str, Array]:
    """The flow's inputs from those of the reference, lengths of a decoder from its mask."""
    specs = {s.name: s for s in built.flow.inputs}
    given = {n: a for n, a in reference.inputs.items() if n in specs}
    if not built.graph.states:
        return complete(built.flow.inputs, given)
    ids = reference.inputs.get("input_ids")
    if ids is None:
        raise InputError("the reference has no input_ids", code="RLX-R092", hint="record a run on token ids")
    valid = reference.valid
    lengths = np.full(len(ids), ids.shape[1]) if valid is None else valid.sum(1)
    if valid is not None and not np.array_equal(valid, np.arange(ids.shape[1]) < lengths[:, None]):
        hint = "record it with padding on the right"
        raise InputError("the reference pads in front of tokens", code="RLX-R092", hint=hint)
    counts = {"past_len": np.zeros(len(ids), np.int32), "new_len": lengths.astype(np.int32)}
    return complete(built.flow.inputs, {**given, **counts})


def _sizes(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, array in inputs.items():
        sizes |= {
            str(dim): size
            for dim, size in zip(graph.inputs[name].shape, array.shape, strict=True)
            if not isinstance(dim, int)
        }
    return {**sizes, "C": sizes.get("S", 1)}
