"""A flow bound to weights: the graph, where each parameter comes from, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from rlxflow.dtypes import DTYPES
from rlxflow.errors import FlowError, WeightsError
from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.lowering import lower
from rlxflow.garbage import uncollected
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Type
from rlxflow.ir.verify import verify
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightPlan, plan_weights
from rlxflow.weights.report import LoadReport
from rlxflow.weights.source import WeightSource

if TYPE_CHECKING:
    from rlxflow.backends.base import Executable
    from rlxflow.flow.emit import Problem
    from rlxflow.profile.model import CompileProfile
    from rlxflow.runtime.execution import ModelExecutionConfig


@dataclass(frozen=True, eq=False)
class BuiltModel:
    """The result of `ModelFlow.build`: nothing is read or compiled yet.

    `expected` says how many places each fusion rule should find, where a recipe knows.
    """

    flow: ModelFlow
    graph: Graph
    source: WeightSource
    plan: WeightPlan
    profile: CompileProfile
    expected: Mapping[str, int] | None = None

    @property
    def report(self) -> LoadReport:
        """What was found in the files."""
        return self.plan.report

    @property
    def weights(self) -> WeightSource:
        """The tensors under the flow's own keys."""
        return self.plan.view(self.source)

    def with_execution_config(self, config: ModelExecutionConfig) -> BuiltModel:
        """The same model with the profile of `config`'s preset."""
        return replace(self, profile=config.compile_profile())

    def compile(
        self, profile: str | CompileProfile | None = None, outputs: Iterable[str] | None = None
    ) -> Executable:
        """Read the weights and compile the graph for a set of outputs (all of them by default).

        A profile given here replaces the flow's for everything after building (precision, backend).
        """
        from rlxflow.runtime.compile import compile_graph

        return compile_graph(self, profile, outputs)


@uncollected()
def build(
    flow: ModelFlow,
    source: WeightSource,
    profile: str | CompileProfile,
    prefixes: tuple[str, ...] = ("",),
    unused: tuple[str, ...] = (),
    expected: Mapping[str, int] | None = None,
) -> BuiltModel:
    """Check the flow, match the weights, and emit the graph under the profile's fusion policy.

    `prefixes` and `unused` are what a recipe knows of its checkpoints (see `plan_weights`); `expected` is
    what it knows of fusion.
    """
    from rlxflow.profile.load import load_profile

    settings = load_profile(profile)
    try:
        if not isinstance(source, WeightSource):
            raise WeightsError(
                f"weights are of type {type(source).__name__}, which is no WeightSource",
                code="RLX-W051",
                where=flow.name,
                hint="open files: open_weights(path); wrap arrays: MapWeights({name: array})",
            )
        plan = plan_weights(flow.weights(), source, prefixes=prefixes, expected_unused=unused)
    except Exception:
        raise_problems(flow, flow.check())  # a flow that is wrong in itself comes first
        raise
    lowered = lower(
        flow,
        param_types(plan),
        fusable=settings.fusion.policy.value == "fusable",
        kv_dtype=DTYPES[settings.precision.kv_cache.value],
    )
    raise_problems(flow, lowered.problems)
    assert lowered.graph is not None  # no problems means there is a graph
    graph = flow.extensions.apply(verify(lowered.graph))
    if graph is not lowered.graph:
        verify(graph)
    return BuiltModel(flow, graph, source, plan, settings, expected)


def param_types(plan: WeightPlan) -> dict[str, tuple[str, Type] | None]:
    """Wanted key → (key of its param, type); tied keys share the param of the first of them."""
    first: dict[str, str] = {}
    types: dict[str, tuple[str, Type] | None] = {}
    for key, tensor in plan.tensors.items():
        if tensor is None:
            types[key] = None
            continue
        owner = first.setdefault(tensor.key, key)
        types[key] = owner, Type(tensor.info.dtype, tensor.info.shape)
    return types


def raise_problems(flow: ModelFlow, problems: tuple[Problem, ...]) -> None:
    """One `FlowError` for all problems; it carries the code of the first."""
    if not problems:
        return
    first, shown = problems[0], "\n       ".join(str(p) for p in problems[:10])
    more = f"\n       … and {len(problems) - 10} more" if len(problems) > 10 else ""
    raise FlowError(
        first.message if len(problems) == 1 else f"{len(problems)} wiring problems:\n       {shown}{more}",
        code=first.code,
        where=first.where if len(problems) == 1 else flow.name,
        hint=first.hint if len(problems) == 1 else "flow.check() returns them all",
        details={
            "problems": [
                {"code": p.code, "message": p.message, "where": p.where, "hint": p.hint} for p in problems
            ]
        },
    ) from first.cause
