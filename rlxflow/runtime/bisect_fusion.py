"""Finding the first rewrite that changes a model's numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rlxflow.backends.base import Backend
from rlxflow.backends.find import find_backend
from rlxflow.dtypes import Array, to_numpy
from rlxflow.flow.built import BuiltModel
from rlxflow.fusion.pipeline import Optimized
from rlxflow.ir.dims import bind_shape
from rlxflow.ir.graph import Graph
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.compile import explain
from rlxflow.runtime.verify_fusion import first_wrong, looks_up_one_row

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile

TOLERANCE = 1e-4  # of max|a − b| / max(1, max|b|); f32 sums in another order stay far below


@dataclass(frozen=True)
class Blame:
    """The first rewrite that changes the numbers: its number, rule, stage, and the error it brings."""

    number: int
    of: int
    rule: str
    where: str
    error: float


def bisect(
    built: BuiltModel,
    batch: int,
    seq: int,
    profile: str | CompileProfile | None = None,
    tolerance: float = TOLERANCE,
) -> Blame | None:
    """Run the model with the first n rewrites, for n found by halving, on its real weights.

    None where all rewrites together stay within the tolerance of none.
    """
    backend = find_backend("reference")
    inputs = sample_inputs(built.graph, batch, seq)
    expected = _run(built, explain(built, batch, seq, profile, limit=0), backend, inputs)

    def error_with(limit: int) -> float:
        return _worst(
            _run(built, explain(built, batch, seq, profile, limit=limit), backend, inputs), expected
        )

    total = _count(explain(built, batch, seq, profile))
    wrong = first_wrong(error_with, total, tolerance)
    if wrong is None:
        return None
    before, after = (explain(built, batch, seq, profile, limit=n) for n in (wrong - 1, wrong))
    for old, new in zip(before.results, after.results, strict=True):
        if len(new.matches) > len(old.matches):
            where = new.search.snapshot.graph.where(new.matches[-1].anchor)
            return Blame(wrong, total, new.rule.name, where, error_with(wrong))
    raise AssertionError("one more rewrite is one more match")


def sample_inputs(graph: Graph, batch: int, seq: int) -> dict[str, Array]:
    """Inputs of a first call: full masks, empty caches, all tokens new, everything else 0 or 1 (0 where it
    looks up a table of one row)."""
    rng = np.random.default_rng(0)
    fixed = {"past_len": 0, "new_len": seq, "attention_mask": 1}
    inputs = {}
    for name, value in graph.inputs.items():
        shape = bind_shape(value.shape, {"B": batch, "S": seq})
        if name in fixed:
            array = np.full(shape, fixed[name])
        else:
            array = rng.standard_normal(shape) if value.dtype.is_float else rng.integers(0, 2, shape)
            array = array * (not looks_up_one_row(graph, value))
        inputs[name] = array.astype(to_numpy(value.dtype))
    return inputs


def _run(
    built: BuiltModel, optimized: Optimized, backend: Backend, inputs: dict[str, Array]
) -> dict[str, Array]:
    executable = backend.compile(optimized.graph, optimized.weights(built.weights), built.profile)
    batch, seq = optimized.report.batch or 1, optimized.report.seq or 1
    state = executable.new_state(batch, seq) if optimized.graph.states else None
    return executable(inputs, state)


def _worst(actual: dict[str, Array], expected: dict[str, Array]) -> float:
    errors = []
    for name, array in expected.items():
        wide = array.astype(np.float64)
        difference = np.abs(actual[name].astype(np.float64) - wide).max(initial=0.0)
        error = float(difference / max(1.0, float(np.abs(wide).max(initial=0.0))))
        errors.append(error if error == error else float("inf"))
    return max(errors, default=0.0)


def _count(optimized: Optimized) -> int:
    return sum(len(r.matches) for r in optimized.results)
