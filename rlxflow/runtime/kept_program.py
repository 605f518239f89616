"""Programs of models kept on disk, beside compiled code: a later start needs no flow, no fusion and no plan.

A program is kept under a digest of all that it follows from: the model's settings and the names, dtypes and
shapes of its weights, the profile, the processor, LLVM, what is installed, and rlxflow's own files. So what
is found is what `load`, the only way to make one, made and checked in an earlier process. It is data:
numbers, names, graphs in their text form, and object code. Any fault in it is as if nothing were there.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import rlxflow
from rlxflow.backends.base import Executable
from rlxflow.backends.cpu.constants import Constants
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.llvm import VERSION, LoadedCode, host_target
from rlxflow.backends.cpu.object_cache import files_digest, keep_program, kept_program
from rlxflow.backends.cpu.plan import Plan
from rlxflow.backends.cpu.plan_data import plan_from_data, plan_to_data
from rlxflow.backends.cpu.team import team_of, thread_count
from rlxflow.dtypes import DTYPES
from rlxflow.errors import RlxError
from rlxflow.flow.input_spec import InputSpec
from rlxflow.ir.dims import dim
from rlxflow.ir.graph import Graph
from rlxflow.ir.text import parse_graph, print_graph
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.shared_weights import SharedWeights
from rlxflow.weights.memory import check_memory
from rlxflow.weights.source import Weights
from rlxflow.weights.views import RenamedWeights

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile
    from rlxflow.runtime.model import Model
    from rlxflow.runtime.model_files import ModelFiles

VARIABLES = ("RLX_FUSE_ATTN_THRESHOLD", "RLXFLOW_BACKEND")  # that programs follow from


@dataclass(frozen=True, eq=False)
class KeptProgram:
    """A program, and what its model's callers ask of flow and config.

    `names` says which stored weight each one is, `expressions` how others are made of them; `loading` is the
    memory that it takes to load, `stored` the bytes of the weights in their files.
    """

    graph: Graph
    plan: Plan
    code: bytes
    inputs: tuple[InputSpec, ...]
    names: Mapping[str, str]
    expressions: Mapping[str, Graph]
    threads: int
    loading: int
    stored: int
    max_positions: int | None
    vocab_size: int

    def start(self, files: ModelFiles, on_read: Callable[[int], object]) -> CpuExecutable:
        """The executable with the weights of these files."""
        check_memory(self.loading)
        target = host_target()
        weights: Weights = SharedWeights(RenamedWeights(files.source, self.names), on_read)
        if self.expressions:
            from rlxflow.fusion.weight_time import WeightView

            weights = WeightView(weights, self.expressions)
        code, team = LoadedCode(self.code, target), team_of(thread_count(self.threads))
        return CpuExecutable(self.graph, self.plan, code, Constants(weights), target, team)


def program_name(files: ModelFiles, profile: str | CompileProfile | None) -> str | None:
    """The name that the program of a model has on disk; None for one that is not kept.

    Raises as the parts of `files` and `load_profile`, and what LLVM raises where it does not work.
    """
    facts = files.program_facts()
    if facts is None:
        return None
    if isinstance(profile, str) and not ("/" in profile or "\\" in profile or profile.endswith(".toml")):
        chosen = f"preset {profile}"
    elif profile is None:
        chosen = "of the flow"
    else:
        from rlxflow.profile.load import load_profile

        chosen = load_profile(profile).hash()
    variables = [os.environ.get(name) for name in VARIABLES]
    return _digest(facts, chosen, variables, VERSION, host_target(), _installed())


def find_program(name: str, files: ModelFiles) -> KeptProgram | None:
    """The program of this name, where it is whole; `files` recall what was known of them."""
    content = kept_program(name)
    if content is None:
        return None
    text, _, code = content.partition(b"\n")
    try:
        data = json.loads(text)
        graph, plan = plan_from_data(data.pop("plan"))
        data["inputs"] = tuple(
            InputSpec(name, tuple(map(dim, shape)), DTYPES[dtype], default)
            for name, shape, dtype, default in data["inputs"]
        )
        files.recall(data.pop("known"))
        data["expressions"] = {key: parse_graph(text) for key, text in data["expressions"].items()}
        return KeptProgram(graph, plan, code, **data)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RlxError):
        return None


def keep(name: str, model: Model, executable: Executable, expressions: Mapping[str, Graph]) -> None:
    """Keep the program of a model that has just been compiled, where that is all that a start needs.

    Not where the compiled backend does not run it alone, where weights have to be compared at each start,
    where compiling is to be told of, and where recipes or rules of others are installed, whose files nobody
    watches.
    """
    from importlib.metadata import entry_points

    from rlxflow.backends.cpu.memory_use import memory_use

    built, profile = model.built, model.profile
    told = profile.passes.verbose or any(tie.found == "both" for tie in built.report.tied)
    others = any(entry_points(group=group) for group in ("rlxflow.recipes", "rlxflow.rules"))
    if told or others or not isinstance(executable, CpuExecutable):
        return
    plan, target = executable.plan, host_target()
    data = {
        "plan": plan_to_data(executable.graph, plan),
        "inputs": [[s.name, [*map(_size, s.shape)], s.dtype.name, s.default] for s in model.inputs],
        "names": {key: tensor.key for key, tensor in built.plan.tensors.items() if tensor is not None},
        "expressions": {key: print_graph(graph) for key, graph in expressions.items()},
        "threads": profile.backend.cpu.threads,
        "loading": memory_use(executable.graph, plan, target, 1, 1).loading,
        "stored": built.report.nbytes,
        "max_positions": model.max_positions,
        "vocab_size": getattr(model.config, "vocab_size", 2**32),
        "known": model.files.to_recall() if model.files is not None else None,
    }
    about = f"{executable.graph.name}, whole program, {len(plan.labels)} steps, {target.name}"
    keep_program(name, about, json.dumps(data).encode() + b"\n" + executable.code.code)


def _size(size: object) -> object:
    return size if isinstance(size, int) else str(size)


def _digest(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=24).hexdigest()


def _installed() -> str:
    """A digest of rlxflow's files by name, size and time, and of when packages were installed or removed."""
    package = Path(rlxflow.__file__).parent
    beside = [folder for name in ("recipes", "profiles") if (folder := package.parent / name).is_dir()]
    files = files_digest(package, *beside)  # in a checkout they lie beside it, installed within
    sites = [p for p in map(Path, sys.path) if p.name in ("site-packages", "dist-packages") and p.is_dir()]
    return _digest(rlxflow.__version__, files, [(str(p), p.stat().st_mtime_ns) for p in sites])
