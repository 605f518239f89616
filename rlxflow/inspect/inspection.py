"""What `rlxflow inspect` shows: one model as plain data, from headers and settings only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlxflow.errors import RlxError
from rlxflow.inspect.examine import Examination, examine
from rlxflow.inspect.memory_plan import MemoryPlan, memory_plan
from rlxflow.inspect.tensors import TensorGroup, group_tensors, tensor_infos
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.embedding_settings import EmbeddingSettings
from rlxflow.weights.report import LoadReport

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile


@dataclass(frozen=True)
class Inspection:
    """A model as data. What could not be told is None or empty, the reason is in `errors`.

    `files` are (name, bytes); `config` what the recipe reads of the config, or the whole of it where no
    recipe does; `parameters` and `nbytes` count every stored tensor; `rope` is None for models without.
    """

    path: str
    files: tuple[tuple[str, int], ...]
    recipe: str | None
    config: Mapping[str, Any]
    rope: Mapping[str, Any] | None
    tensors: tuple[TensorGroup, ...]
    unreadable: tuple[tuple[str, str], ...]
    parameters: int
    nbytes: int
    memory: MemoryPlan | None
    report: LoadReport | None
    tokenizer: str
    embedding: EmbeddingSettings | None
    profile: str
    trades: tuple[str, ...]
    errors: Mapping[str, RlxError]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able data; the same keys for every model."""
        return {
            "path": self.path,
            "files": [{"name": name, "bytes": size} for name, size in self.files],
            "recipe": self.recipe,
            "config": dict(self.config),
            "rope": self.rope,
            "tensors": [asdict(group) for group in self.tensors],
            "unreadable": [{"key": key, "reason": reason} for key, reason in self.unreadable],
            "parameters": self.parameters,
            "nbytes": self.nbytes,
            "memory": asdict(self.memory) if self.memory else None,
            "report": self.report.as_dict() if self.report else None,
            "tokenizer": self.tokenizer or None,
            "embedding": asdict(self.embedding) if self.embedding else None,
            "profile": {"source": self.profile, "trades": list(self.trades)},
            "errors": {part: error.as_dict() for part, error in self.errors.items()},
        }


def inspect_model(
    path: str | os.PathLike[str],
    profile: str | CompileProfile | None = None,
    recipe: str | None = None,
    context: int | None = None,
) -> Inspection:
    """Inspect what lies at `path`; the memory plan tells of a cache for `context` tokens.

    Raises `WeightsError` where there is nothing that can be opened.
    """
    e = examine(path, profile, recipe)
    infos, unreadable = tensor_infos(e.source) if e.source is not None else ([], [])
    groups = group_tensors(infos)
    return Inspection(
        path=str(e.path),
        files=_files(e.files.path),
        recipe=e.recipe.model_type if e.recipe else None,
        config=_config(e),
        rope=_rope(e),
        tensors=groups,
        unreadable=tuple(unreadable),
        parameters=sum(group.parameters for group in groups),
        nbytes=sum(group.nbytes for group in groups),
        memory=e.attempt("memory", lambda: _memory(e, context)),
        report=e.built.report if e.built else None,
        tokenizer=e.files.tokenizer_note,
        embedding=e.embedding,
        profile=e.built.profile.source if e.built else "",
        trades=e.built.profile.trades() if e.built else (),
        errors=e.errors,
    )


def _files(path: Path) -> tuple[tuple[str, int], ...]:
    if not path.is_dir():
        return ((path.name, path.stat().st_size),)
    entries = (entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    return tuple(sorted((entry.name, entry.stat().st_size) for entry in entries))


def _config(e: Examination) -> Mapping[str, Any]:
    if e.config is not None:
        return e.config.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    return e.raw_config or {}


def _rope(e: Examination) -> Mapping[str, Any] | None:
    rope = getattr(e.config, "rope", None)
    if rope is None:
        return None
    kind = dict(rope.scaling).get("rope_type", "default")
    return {"theta": rope.theta, "rotary_dim": rope.rotary_dim, "rope_type": kind}


def _memory(e: Examination, context: int | None) -> MemoryPlan | None:
    if e.built is None or e.config is None:
        return None
    return memory_plan(e.built, e.config.max_tokens, context)
