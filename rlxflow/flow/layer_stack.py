"""`LayerStack`: several stages under one name; itself a stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rlxflow.errors import FlowError, printable
from rlxflow.flow.emit import Emit, Problem, run_all
from rlxflow.flow.fluent import StageMethods
from rlxflow.flow.stage import Stage
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class LayerStack(StageMethods):
    """An immutable list of stages with the fluent methods of a flow.

    >>> LayerStack("mlp").residual_save().rms_norm("norm.weight", eps=1e-6).residual_add()

    Residuals saved inside must be added inside, and an add inside finds only those.
    """

    name: str = ""
    stages: tuple[Stage, ...] = ()

    def append(self, stages: Iterable[Stage]) -> LayerStack:
        return replace(self, stages=(*self.stages, *map(checked_stage, stages)))

    def weights(self) -> tuple[WeightSpec, ...]:
        return tuple(spec for stage in self.stages for spec in stage.weights())

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        outer, e.state.residuals = e.state.residuals, []
        y = run_all(e, self.stages, x)
        open_residuals, e.state.residuals = e.state.residuals, outer
        for _, path in open_residuals:
            e.problems.append(never_added(path))
        return y


def never_added(path: str) -> Problem:
    """The problem of a residual that was saved at `path` and not added before its stack or flow ended."""
    return Problem("RLX-F012", "the residual saved here is never added", path, "add residual_add() after it")


def checked_stage(stage: object) -> Stage:
    """The stage itself; raises `FlowError` for anything that is not one."""
    if isinstance(stage, Stage) and not isinstance(stage, type):
        try:
            hash(stage)
        except (TypeError, RecursionError) as error:
            raise FlowError(
                f"{type(stage).__name__} cannot be hashed: {printable(error)}",
                code="RLX-F011",
                hint="make it a frozen dataclass whose fields are plain values and tuples, not lists",
            ) from error
        return stage
    what = stage.__name__ if isinstance(stage, type) else type(stage).__name__
    raise FlowError(
        f"{what} is not a stage",
        code="RLX-F011",
        hint="a stage is a frozen dataclass with weights() and emit(e, x); pass an instance",
    )
