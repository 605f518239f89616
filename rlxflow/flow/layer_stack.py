"""`LayerStack`: several stages under one name; itself a stage."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rlxflow.errors import FlowError
from rlxflow.flow.emit import Emit, run_all
from rlxflow.flow.fluent import StageMethods
from rlxflow.flow.stage import Stage
from rlxflow.ir.values import Value
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class LayerStack(StageMethods):
    """An immutable list of stages with the fluent methods of a flow.

    >>> LayerStack("mlp").residual_save().rms_norm("norm.weight", eps=1e-6).residual_add()

    Residuals saved inside must be added inside.
    """

    name: str = ""
    stages: tuple[Stage, ...] = ()

    def stage(self, stage: Stage) -> LayerStack:
        return replace(self, stages=(*self.stages, checked_stage(stage)))

    def weights(self) -> tuple[WeightSpec, ...]:
        return tuple(spec for stage in self.stages for spec in stage.weights())

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        depth = len(e.state.residuals)
        y = run_all(e, self.stages, x)
        if len(e.state.residuals) > depth:
            _, path = e.state.residuals[-1]
            del e.state.residuals[depth:]
            raise e.error(
                "RLX-F012", f"the residual saved at {path} is never added", "add residual_add() to the stack"
            )
        return y


def checked_stage(stage: object) -> Stage:
    """The stage itself; raises `FlowError` for anything that is not one."""
    if isinstance(stage, Stage) and not isinstance(stage, type):
        return stage
    what = stage.__name__ if isinstance(stage, type) else type(stage).__name__
    raise FlowError(
        f"{what} is not a stage",
        code="RLX-F011",
        hint="a stage is a frozen dataclass with weights() and emit(e, x); pass an instance",
    )
