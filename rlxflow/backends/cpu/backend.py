"""The CPU backend: compiles graphs of primitive ops for the processor at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlxflow.backends.base import MemoryUse
from rlxflow.backends.cpu.checked_call import CheckedCalls
from rlxflow.backends.cpu.constants import Constants
from rlxflow.backends.cpu.emit import emit
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.llvm import LoadedCode, compile_text, host_target
from rlxflow.backends.cpu.memory_use import memory_use
from rlxflow.backends.cpu.object_cache import cached_code
from rlxflow.backends.cpu.plan import Plan
from rlxflow.backends.cpu.planner import make_plan
from rlxflow.backends.cpu.regions import SUPPORTED
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.team import team_of, thread_count
from rlxflow.backends.cpu.traced import TracedCalls
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import Op
from rlxflow.ir.values import Node
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.memory import check_memory
from rlxflow.weights.source import Weights

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile


@dataclass(frozen=True)
class CpuBackend:
    """Activations in f32.

    `target` asks for a narrower vector unit; `checked` tests every memory access; `traced` times every step;
    `apart` names what is not fused, of `regions.FUSIONS`.
    """

    name = "cpu"
    target: str | None = None
    checked: bool = False
    traced: bool = False
    apart: tuple[str, ...] = ()

    def runs(self, op: Op[..., Any]) -> bool:
        """Whether a kernel may run the op; `compile` says why not where it cannot."""
        leaf = op.name in ("input", "param", "state", "full", "iota", "constant")
        return op.level == "primitive" and (leaf or op.name in SUPPORTED)

    def claims(self, node: Node) -> bool:
        return self.runs(node.op)

    def _plan(self, graph: Graph, target: Target, profile: CompileProfile) -> Plan:
        apart = {*self.apart, *(("tails", "rows") if profile.backend.cpu.unfuse_regions else ())}
        return make_plan(graph, target, profile.precision, apart)

    def memory(self, graph: Graph, profile: CompileProfile, tokens: int) -> MemoryUse:
        target = host_target(self.target)
        plan = self._plan(graph, target, profile)
        return memory_use(graph, plan, target, thread_count(profile.backend.cpu.threads), tokens)

    def compile(self, graph: Graph, weights: Weights, profile: CompileProfile) -> CpuExecutable:
        target = host_target(self.target)
        plan = self._plan(graph, target, profile)
        check_memory(memory_use(graph, plan, target, 1, 1).loading)
        key = f"{plan.text} {self.checked} {self.traced}"
        about = f"{graph.name}, {len(plan.steps)} steps, {target.name}"

        def make() -> bytes:
            return compile_text(emit(plan, target, self.checked, self.traced), target)

        code = cached_code(key, target, about, make)
        loaded = LoadedCode(code, target)
        team = team_of(thread_count(profile.backend.cpu.threads))
        checks = CheckedCalls(loaded) if self.checked else None
        trace = TracedCalls(loaded) if self.traced else None
        return CpuExecutable(graph, plan, loaded, Constants(weights), target, team, checks, trace)
