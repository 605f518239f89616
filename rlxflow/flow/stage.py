"""The stage protocol: what a model author composes, and what third parties implement."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from rlxflow.ir.values import Value
from rlxflow.weights.plan import WeightSpec

if TYPE_CHECKING:
    from rlxflow.flow.emit import Emit

FlowValue: TypeAlias = Value


@runtime_checkable
class Stage(Protocol):
    """One step of a flow: a frozen dataclass with two methods.

    `weights` lists the tensors the stage wants: key, `[out, in]` shape (None = any size), tie,
    alternatives. `emit` writes the stage's ops: it gets the active value (None before the first one) and
    returns the next one, or None to leave the value as it is. Weights, inputs, rope tables, caches and
    streams come from `e`; ops are called as functions. Errors: raise `e.error(...)`.
    """

    def weights(self) -> tuple[WeightSpec, ...]: ...

    def emit(self, e: Emit, x: Value | None) -> Value | None: ...


FlowStage: TypeAlias = Stage  # a flow takes anything that is a Stage


def stage_label(stage: Stage) -> str:
    """The name of a stage in paths: its `name` if it has one, else its class in snake_case."""
    name = getattr(stage, "name", None)
    if isinstance(name, str) and name:
        return name
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(stage).__name__.removesuffix("Stage"))
    return words.lower()
