"""From a built model to an executable: choose outputs, run the fusion pipeline, compile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from rlxflow.backends.auto import AutoBackend
from rlxflow.backends.base import Backend, Executable, MemoryUse
from rlxflow.backends.find import find_backend
from rlxflow.backends.inputs import no_output
from rlxflow.errors import FusionError, InputError, printable
from rlxflow.flow.built import BuiltModel
from rlxflow.fusion.pipeline import OnPass, Optimized, TokenRange, facts_for, optimize, token_ranges
from rlxflow.fusion.report import FusionReport
from rlxflow.fusion.rule import Rule
from rlxflow.fusion.rules import all_rules
from rlxflow.garbage import uncollected
from rlxflow.ir.dims import names
from rlxflow.ir.graph import Graph
from rlxflow.runtime.plans import TokenPlans
from rlxflow.runtime.shared_weights import SharedWeights

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile


BACKEND_VARIABLE = "RLXFLOW_BACKEND"
LARGEST_SIZE = 1 << 30  # of a batch or a sequence that can be asked about


def compile_graph(
    built: BuiltModel,
    profile: str | CompileProfile | None = None,
    outputs: Iterable[str] | None = None,
    backend: Backend | None = None,
    on_read: Callable[[int], object] | None = None,
    on_one: Callable[[Executable, Mapping[str, Graph]], object] | None = None,
) -> Executable:
    """The executable of a built model for these outputs (all by default): a program per range of batch · seq
    for which the rules' limits make a difference to the backend.

    `backend` overrides the one that the profile names; `on_read` is told the bytes of weights as they are
    read, `on_one` the program, where there is but one, and the expressions behind its weights. Raises
    `FusionError` (U010, U011) where the profile demands a clean fusion and it is not.
    """
    settings = settings_of(built, profile)
    graph = wanted_graph(built, outputs)
    built.plan.check_ties(built.source)
    backend = backend or backend_of(settings)
    weights = SharedWeights(built.weights, on_read)
    plans: list[tuple[TokenRange, Executable]] = []
    made: dict[str, Executable] = {}
    for tokens in token_ranges(settings, backend.runs):
        optimized = _optimized(built, graph, settings, backend, tokens)
        if optimized.graph.digest not in made:
            compiled = backend.compile(optimized.graph, optimized.weights(weights), settings)
            made[optimized.graph.digest] = compiled
        plans.append((tokens, made[optimized.graph.digest]))
    if len(made) > 1:
        return TokenPlans(plans)
    if on_one is not None:
        on_one(plans[0][1], optimized.expressions)
    return plans[0][1]


def _optimized(
    built: BuiltModel, graph: Graph, profile: CompileProfile, backend: Backend, tokens: TokenRange
) -> Optimized:
    """The graph as it will run for a range of batch · seq.

    Rules whose ops the backend expands again only run where somebody is told of them.
    """
    strict = profile.fusion.assert_clean
    told = strict or profile.passes.verbose
    optimized = optimize(
        graph,
        profile,
        facts_for(profile, tokens.tokens),
        backend.claims,
        expected=built.expected if strict else None,
        rules=None if told else _lasting_rules(backend),
        on_pass=_say if profile.passes.verbose else None,
    )
    if strict:
        require_clean(optimized.report, built.expected is not None)
    return optimized


def _lasting_rules(backend: Backend) -> list[Rule]:
    """The rules that make what the backend may run."""
    return [rule for rule in all_rules() if any(backend.runs(op) for op in rule.makes)]


def memory_of(built: BuiltModel, tokens: int, profile: str | CompileProfile | None = None) -> MemoryUse:
    """What the program takes, and a call for so many tokens of one sequence; no weight is read."""
    return running(built, tokens, profile)[1]


@uncollected()  # plans are as large as graphs
def running(
    built: BuiltModel, tokens: int, profile: str | CompileProfile | None = None
) -> tuple[str, MemoryUse]:
    """The name of the backend that runs such calls, and what that takes; see `memory_of`."""
    settings = settings_of(built, profile)
    backend = backend_of(settings)
    graph = wanted_graph(built, ["last_logits"] if "last_logits" in built.graph.outputs else None)
    optimized = optimize(
        graph, settings, facts_for(settings, tokens), backend.claims, rules=_lasting_rules(backend)
    )
    if isinstance(backend, AutoBackend):
        chosen, _, memory = backend.choose(optimized.graph, settings, tokens)
        return chosen.name, memory
    return backend.name, backend.memory(optimized.graph, settings, tokens)


def explain(
    built: BuiltModel,
    batch: int,
    seq: int,
    profile: str | CompileProfile | None = None,
    outputs: Iterable[str] | None = None,
    *,
    limit: int | None = None,
    on_pass: OnPass | None = None,
) -> Optimized:
    """What compiling for `batch` sequences of `seq` tokens would do, with costs; no weight is read.

    Any other size that inputs name counts as `seq`.

    `limit` allows only so many rewrites. Raises `InputError` (R070) for sizes that no call has.
    """
    from rlxflow.inspect.cost import cost

    for name, size in (("batch", batch), ("seq", seq)):
        if not isinstance(size, int) or not 1 <= size <= LARGEST_SIZE:
            hint = f"give a number from 1 to {LARGEST_SIZE:,}"
            message = f"{name} is {printable(repr(size), 40)}"
            raise InputError(message, code="RLX-R070", where=built.flow.name, hint=hint)
    settings = settings_of(built, profile)
    backend = backend_of(settings)
    optimized = optimize(
        wanted_graph(built, outputs),
        settings,
        facts_for(settings, batch * seq),
        backend.claims,
        expected=built.expected,
        limit=limit,
        on_pass=on_pass,
    )
    others = {name: seq for v in built.graph.inputs.values() for d in v.shape for name in names(d)}
    sizes = {**others, "B": batch, "S": seq, "C": seq}
    chosen: tuple[str, ...] = ()
    if isinstance(backend, AutoBackend):
        backend, why, _ = backend.choose(optimized.graph, settings, 1)
        chosen = (f"backend {backend.name} was chosen: {why}",)
    report = replace(
        optimized.report,
        backend=backend.name,
        notes=(*optimized.report.notes, *chosen),
        batch=batch,
        seq=seq,
        costs={name: cost(graph, sizes) for name, graph in optimized.report.graphs.items()},
    )
    return replace(optimized, report=report)


def require_clean(report: FusionReport, expected_known: bool) -> None:
    """Raise `FusionError` unless every rule found as many places as the recipe expects."""
    if not expected_known:
        raise FusionError(
            "fusion.assert_clean is set, and nothing says what to expect",
            code="RLX-U011",
            where=report.name,
            hint="give the recipe `expected` counts, or set fusion.assert_clean = false",
        )
    wrong = [r for r in report.rules if not r.clean]
    if wrong:
        told = ", ".join(f"{r.name} {r.places} of {r.expected}" for r in wrong)
        raise FusionError(
            f"the fusion is not clean: {told}",
            code="RLX-U010",
            where=report.name,
            hint="`rlxflow explain` names the nodes that stopped each rule",
            details={"report": report.as_dict()},
        )


def settings_of(built: BuiltModel, profile: str | CompileProfile | None) -> CompileProfile:
    """The profile given, or the one the model was built with."""
    from rlxflow.profile.load import load_profile

    return built.profile if profile is None else load_profile(profile)


def backend_of(profile: CompileProfile) -> Backend:
    """The backend that a profile names; for `auto` the variable RLXFLOW_BACKEND may name another."""
    name = profile.backend.name.value
    return find_backend((os.environ.get(BACKEND_VARIABLE) or name) if name == AutoBackend.name else name)


def wanted_graph(built: BuiltModel, outputs: Iterable[str] | None) -> Graph:
    """The model's graph for these outputs; raises `InputError` for a name that is not one."""
    wanted = list(built.graph.outputs if outputs is None else outputs)
    for name in wanted:
        if name not in built.graph.outputs:
            raise no_output(built.graph, name)
    return built.graph.select(wanted)


def _say(name: str, before: Graph, after: Graph) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{after.name}: {name} {len(before.nodes)} → {len(after.nodes)} nodes\n")
