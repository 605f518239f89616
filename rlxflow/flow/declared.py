"""What the stages of a flow declare about weights, joined into one table before any weight exists."""

from __future__ import annotations

from dataclasses import field

from rlxflow.dtypes import f32
from rlxflow.errors import printable
from rlxflow.flow.emit import Problem, labelled
from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.stage import Stage
from rlxflow.ir.dims import UNKNOWN, Shape, shape, shape_text, shapes_agree
from rlxflow.ir.values import Type
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass
class Declared:
    """The specs of each top-level stage by path, the type of each weight by key, and what contradicts."""

    specs: list[tuple[str, tuple[WeightSpec, ...]]] = field(default_factory=list)
    types: dict[str, tuple[str, Type] | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def declare(flow: ModelFlow) -> Declared:
    """Each declared weight as f32 of its declared shape, with `UNKNOWN` for a size that only a header tells.

    A key may be declared by several stages (shared layers, tied heads) if the shapes agree.
    """
    declared = Declared()
    for path, stage in labelled(flow.stages):
        specs, problem = _specs(stage, path)
        declared.specs.append((path, specs))
        declared.problems += [problem] if problem else []
    own = {s.key for _, specs in declared.specs for s in specs if s.tied_to is None}
    stored: dict[str, tuple[Shape, str]] = {}
    for path, specs in declared.specs:
        for spec in specs:
            if spec.tied_to is not None and spec.tied_to not in own:
                message = f"weight {spec.key!r} is tied to {spec.tied_to!r}, which no stage declares"
                hint = "put the embedding with that key into the flow"
                declared.problems.append(Problem("RLX-F025", message, path, hint))
            declared.problems += _join(stored, spec, path)
    for _, specs in declared.specs:
        for spec in specs:
            key = spec.tied_to or spec.key
            declared.types[spec.key] = key, Type(f32, stored[key][0])
    return declared


def _specs(stage: Stage, path: str) -> tuple[tuple[WeightSpec, ...], Problem | None]:
    try:
        specs = tuple(stage.weights())
        for spec in specs:
            if not isinstance(spec, WeightSpec):
                raise TypeError(f"{type(spec).__name__} is not a WeightSpec")
            if not isinstance(spec.key, str):
                raise TypeError(f"the key {spec.key!r} is not a string")
            shape(0 if d is None else d for d in spec.shape)
    except Exception as error:
        message = f"weights() failed: {type(error).__name__}: {printable(error)}"
        hint = "weights() returns a tuple of WeightSpec(key, shape)"
        return (), Problem("RLX-F023", message, path, hint, error)
    return specs, None


def _join(stored: dict[str, tuple[Shape, str]], spec: WeightSpec, path: str) -> list[Problem]:
    """Enter a spec's shape under the key it is stored by; a size one stage leaves open another may tell."""
    key = spec.tied_to or spec.key
    wanted: Shape = tuple(UNKNOWN if d is None else d for d in spec.shape)
    known, first = stored.setdefault(key, (wanted, path))
    if not shapes_agree(known, wanted):
        message = f"weight {key!r} is {shape_text(wanted)} here, but {shape_text(known)} in {first}"
        return [Problem("RLX-F026", message, path, "give both stages the same sizes")]
    stored[key] = tuple(b if a == UNKNOWN else a for a, b in zip(known, wanted, strict=True)), first
    return []
