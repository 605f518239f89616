"""How a sentence-transformers directory turns token vectors into embeddings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlxflow.errors import ConfigError, nearest, printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.json_file import read_json

if TYPE_CHECKING:
    from rlxflow.flow.flow import ModelFlow

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True)
class EmbeddingSettings:
    """Pooling, whether the model normalises, the longest input in tokens, and named prompts."""

    pooling: Pooling
    normalize: bool = False
    max_length: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None

    def add_to(self, flow: ModelFlow) -> ModelFlow:
        """The flow with the outputs `pooled`, `normalized`, and `embedding` (one of the two)."""
        flow = flow.mean_pool("attention_mask") if self.pooling == "mean" else flow.cls_token_pool()
        flow = flow.output("pooled")
        if not self.normalize:
            flow = flow.output("embedding")
        flow = flow.l2_normalize().output("normalized")
        return flow.output("embedding") if self.normalize else flow


def read_embedding_settings(directory: Path) -> EmbeddingSettings | None:
    """The settings of a sentence-transformers directory; None where there is no modules.json.

    Reads modules.json, the pooling module's config.json, sentence_bert_config.json,
    config_sentence_transformers.json, and for a model without a length of its own tokenizer_config.json.
    Raises `ConfigError`: C020 for a file that is missing or not JSON, C021 for what we do not have.
    """
    path = directory / "modules.json"
    if not os.path.lexists(path):
        return None
    pooling, normalize = _modules(path)
    sizes = _optional(directory / "sentence_bert_config.json")
    texts = _optional(directory / "config_sentence_transformers.json")
    _want(texts, "truncate_dim", (None,), directory / "config_sentence_transformers.json")
    for name, known in (
        ("transformer_task", (None, "feature-extraction")),
        ("processing_kwargs", (None, {})),
    ):
        _want(sizes, name, known, directory / "sentence_bert_config.json")
    lower_case = sizes.get("do_lower_case", False)
    if not isinstance(lower_case, bool):
        raise _error(
            f"do_lower_case is {_shown(lower_case)}", directory / "sentence_bert_config.json", "true or false"
        )
    prompts, default = _prompts(texts, directory / "config_sentence_transformers.json")
    config = _read(directory / pooling / "config.json")
    if not isinstance(config, dict):
        raise _error("the pooling config is not an object", directory / pooling / "config.json")
    if any(prompts.values()):
        _want(config, "include_prompt", (None, True), directory / pooling / "config.json")
    return EmbeddingSettings(
        _pooling(config, directory / pooling / "config.json"),
        normalize,
        _max_length(sizes, directory),
        lower_case,
        prompts,
        default,
    )


def _modules(path: Path) -> tuple[str, bool]:
    """(the Pooling module's folder, whether a Normalize module follows)."""
    modules = _read(path)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise _error("modules.json is not a list of modules", path)
    types = [str(m.get("type")) for m in modules]
    kinds = [t.rsplit(".", 1)[-1] if t.startswith("sentence_transformers.") else t for t in types]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        shown = ", ".join(printable(kind, 60) for kind in kinds[:8]) or "nothing"
        hint = "supported: Transformer, Pooling and, at the end, Normalize"
        raise _error(f"the pipeline is {shown}", path, hint)
    root, folder = (module.get("path") for module in modules[:2])
    if root not in ("", None):
        raise _error(
            f"the Transformer module's path is {_shown(root)}", path, "it must be the directory itself"
        )
    if not isinstance(folder, str) or not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", folder, re.ASCII):
        raise _error(
            f"the Pooling module's path is {_shown(folder)}", path, "it must be a folder of the model"
        )
    return folder, len(kinds) == 3


def _pooling(config: Mapping[str, Any], path: Path) -> Pooling:
    mode = config.get("pooling_mode")
    if mode is None:
        mode = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    modes = mode if isinstance(mode, list) else [mode]
    known: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "mean": "mean",
        "cls": "cls",
    }
    if len(modes) != 1 or not isinstance(modes[0], str) or modes[0] not in known:
        shown = ", ".join(printable(m, 40) for m in modes[:6]) or "nothing"
        raise _error(f"pooling by {shown}", path, "supported: mean or cls")
    return known[modes[0]]


def _prompts(texts: Mapping[str, Any], path: Path) -> tuple[dict[str, str], str | None]:
    """The named prompts, and which of them is used when none is asked for."""
    prompts, default = texts.get("prompts"), texts.get("default_prompt_name")
    prompts = {} if prompts is None else prompts
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise _error("prompts is not an object of texts", path)
    if default is not None and (not isinstance(default, str) or default not in prompts):
        hint = nearest(str(default), prompts) or "name one of the prompts, or null"
        raise _error(f"default_prompt_name is {_shown(default)}, which is no prompt", path, hint)
    return prompts, default


def _max_length(sizes: Mapping[str, Any], directory: Path) -> int | None:
    """`max_seq_length`, or else the tokenizer's `model_max_length` (1e30 where it has none)."""
    path, name = directory / "sentence_bert_config.json", "max_seq_length"
    value = sizes.get(name)
    if value is None:
        path, name = directory / "tokenizer_config.json", "model_max_length"
        value = _optional(path).get(name)
        if value is None or (isinstance(value, (int, float)) and value >= 1e18):
            return None
    if isinstance(value, int) and not isinstance(value, bool) and value > 2:
        return value
    raise _error(f"{name} is {_shown(value)}", path, "it must be a number of tokens, above 2")


def _want(content: Mapping[str, Any], name: str, known: tuple[Any, ...], path: Path) -> None:
    if not any(content.get(name) == value and type(content.get(name)) is type(value) for value in known):
        raise _error(f"{name} is {_shown(content[name])}", path, "this setting is not supported")


def _read(path: Path) -> Any:
    return read_json(path, what="file of embedding settings", error=ConfigError, code="RLX-C020")


def _optional(path: Path) -> dict[str, Any]:
    content = _read(path) if os.path.lexists(path) else {}
    if not isinstance(content, dict):
        raise _error(f"{path.name} is not an object", path)
    return content


def _shown(value: object) -> str:
    return printable(repr(value), 60)


def _error(message: str, path: Path, hint: str = "download the file again") -> ConfigError:
    return ConfigError(message, code="RLX-C021", where=printable(path), hint=hint)
