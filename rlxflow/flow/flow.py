"""`ModelFlow`: a model declared as a line of stages. Plain data; nothing is computed until `build`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from rlxflow.dtypes import DTYPES, DType
from rlxflow.errors import FlowError, nearest
from rlxflow.flow.extensions import NO_EXTENSIONS, FlowExtensionPlan
from rlxflow.flow.fluent import StageMethods
from rlxflow.flow.input_spec import InputSpec
from rlxflow.flow.layer_stack import checked_stage
from rlxflow.flow.stage import Stage
from rlxflow.ir.dims import DimLike, shape
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec

if TYPE_CHECKING:
    from rlxflow.flow.built import BuiltModel
    from rlxflow.flow.emit import Problem
    from rlxflow.flow.summary import Summary
    from rlxflow.profile.model import CompileProfile
    from rlxflow.weights.source import WeightSource


@dataclass(frozen=True, repr=False)
class ModelFlow(StageMethods):
    """An immutable model declaration; every method returns a new flow.

    The first declared input is the first active value. Stages transform it one after the other. Outputs
    are the values marked with `output`; a flow without any has one output "output", the last value.
    """

    name: str
    inputs: tuple[InputSpec, ...] = ()
    stages: tuple[Stage, ...] = ()
    profile: str | CompileProfile = "exact"
    extensions: FlowExtensionPlan = NO_EXTENSIONS

    def input(
        self, name: str, shape_: Iterable[DimLike], dtype: str | DType = "f32", default: int | None = None
    ) -> ModelFlow:
        """Declare an input array, e.g. `.input("input_ids", ("B", "S"), "i64")`.

        Raises `FlowError` for a name that is taken, and for a dtype or default that inputs cannot have.
        """
        if any(spec.name == name for spec in self.inputs):
            raise FlowError(
                f"input {name!r} is declared twice",
                code="RLX-F013",
                where=self.name,
                hint="rename one of them",
            )
        return replace(
            self, inputs=(*self.inputs, InputSpec(name, shape(shape_), _input_dtype(name, dtype), default))
        )

    def decoder_inputs(self) -> ModelFlow:
        """The inputs of every decoder: `input_ids` i64 [B, S], `past_len` and `new_len` i32 [B].

        Positions, causality, padding and the last token follow from the two lengths: row b holds
        `new_len[b]` tokens (the rest is padding) that stand at positions past_len[b], past_len[b] + 1, …
        """
        flow = self.input("input_ids", ("B", "S"), "i64")
        return flow.input("past_len", ("B",), "i32").input("new_len", ("B",), "i32")

    def encoder_inputs(self) -> ModelFlow:
        """The inputs of every text encoder, i64 [B, S]: `input_ids` and `attention_mask`, else all 1."""
        flow = self.input("input_ids", ("B", "S"), "i64")
        return flow.input("attention_mask", ("B", "S"), "i64", default=1)

    def append(self, stages: Iterable[Stage]) -> ModelFlow:
        """Append several stages, built in or not."""
        return replace(self, stages=(*self.stages, *map(checked_stage, stages)))

    def with_profile(self, profile: str | CompileProfile) -> ModelFlow:
        """The same flow with another default profile: a preset's name, a path, or an object."""
        return replace(self, profile=profile)

    def with_extensions(self, plan: FlowExtensionPlan) -> ModelFlow:
        """The same flow, with the graph extensions that `build` applies; none by default."""
        return replace(self, extensions=plan)

    def when(self, condition: bool, then: Callable[[ModelFlow], ModelFlow]) -> ModelFlow:
        """`then(flow)` if the condition holds, else the flow; decided now."""
        return _flow(then(self), "when") if condition else self

    def patch(self, change: Callable[[ModelFlow], ModelFlow]) -> ModelFlow:
        """`change(flow)`, applied now: for edits that the fluent methods do not cover."""
        return _flow(change(self), "patch")

    def weights(self) -> tuple[WeightSpec, ...]:
        """Every weight the stages want, in order."""
        return tuple(spec for stage in self.stages for spec in stage.weights())

    def check(self) -> tuple[Problem, ...]:
        """Every wiring error, before any weight exists; empty when the flow is sound."""
        from rlxflow.flow.lowering import lower

        return lower(self).problems

    def summary(self) -> Summary:
        """Stages with their shapes, parameter counts and memory."""
        from rlxflow.flow.summary import summarize

        return summarize(self)

    def build(self, weights: WeightSource, profile: str | CompileProfile | None = None) -> BuiltModel:
        """Check the flow, check the weights' headers against it, and emit the graph. Reads no tensor data.

        Raises `FlowError` with every wiring problem, or a `WeightsError` with every weight problem.
        """
        from rlxflow.flow.built import build

        return build(self, weights, self.profile if profile is None else profile)

    def diff(self, other: ModelFlow) -> str:
        """A unified diff of the two flows as code; empty where they are equal."""
        lines = difflib.unified_diff(
            repr(self).splitlines(), repr(other).splitlines(), self.name, other.name, lineterm="", n=1
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        """The flow as code that builds it."""
        lines = [f"ModelFlow({self.name!r})"]
        for spec in self.inputs:
            sizes = tuple(d if isinstance(d, int) else str(d) for d in spec.shape)
            default = f", default={spec.default}" if spec.default is not None else ""
            lines.append(f"    .input({spec.name!r}, {sizes!r}, {spec.dtype.name!r}{default})")
        lines += [f"    .stage({stage!r})" for stage in self.stages]
        if self.profile != "exact":
            lines.append(f"    .with_profile({self.profile!r})")
        if self.extensions != NO_EXTENSIONS:
            lines.append(f"    .with_extensions({self.extensions!r})")
        return "(" + "\n".join(lines) + ")" if len(lines) > 1 else lines[0]


def _input_dtype(name: str, dtype: str | DType) -> DType:
    known = {n: t for n, t in DTYPES.items() if not t.packed}
    found = dtype if isinstance(dtype, DType) else known.get(str(dtype))
    if not isinstance(name, str) or not name:
        raise FlowError("an input needs a name", code="RLX-F014", where="input", hint="write .input(name, …)")
    if found is None or found.packed:
        hint = nearest(str(dtype), known) or f"known: {', '.join(known)}"
        raise FlowError(f"no input dtype {dtype!s}", code="RLX-F014", where=f"input {name}", hint=hint)
    return found


def _flow(result: object, method: str) -> ModelFlow:
    if not isinstance(result, ModelFlow):
        raise FlowError(
            f"the function given to {method}() returned {type(result).__name__}, not a flow",
            code="RLX-F027",
            hint="return the flow: every method gives a new one",
        )
    return result
