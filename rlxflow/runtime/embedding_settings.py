"""How a sentence-transformers directory turns token vectors into embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlxflow.errors import ConfigError, printable
from rlxflow.flow.flow import ModelFlow
from rlxflow.weights.json_file import read_json

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True, slots=True)
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

    Reads modules.json, the pooling module's config.json, sentence_bert_config.json and
    config_sentence_transformers.json. Raises `ConfigError` for a module or pooling mode we do not have.
    """
    path = directory / "modules.json"
    if not path.exists():
        return None
    modules = _read(path)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise _error("modules.json is not a list of modules", path)
    kinds = [str(m.get("type", "")).rsplit(".", 1)[-1] for m in modules]
    unknown = [k for k in kinds if k not in ("Transformer", "Pooling", "Normalize")]
    if unknown or kinds.count("Pooling") != 1:
        what = (
            f"modules {', '.join(map(printable, unknown))}" if unknown else "not exactly one Pooling module"
        )
        raise _error(
            f"this pipeline has {what}", path, "only Transformer, Pooling and Normalize are supported"
        )
    folder = str(modules[kinds.index("Pooling")].get("path", ""))
    if not folder or Path(folder).name != folder or folder in (".", ".."):
        raise _error(
            f"the Pooling module's path is {printable(folder)!r}", path, "it must be a folder of the model"
        )
    bert = _optional(directory / "sentence_bert_config.json")
    prompts = _optional(directory / "config_sentence_transformers.json")
    return EmbeddingSettings(
        _pooling(directory / folder / "config.json"),
        "Normalize" in kinds,
        _max_length(bert.get("max_seq_length"), directory),
        bert.get("do_lower_case") is True,
        {str(k): str(v) for k, v in (prompts.get("prompts") or {}).items()},
        prompts.get("default_prompt_name"),
    )


def _pooling(path: Path) -> Pooling:
    config = _read(path)
    if not isinstance(config, dict):
        raise _error("the pooling config is not an object", path)
    mode = config.get("pooling_mode")
    modes = (
        [k for k, v in config.items() if k.startswith("pooling_mode_") and v is True]
        if mode is None
        else [mode]
    )
    known: dict[Any, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "mean": "mean",
        "cls": "cls",
    }
    if len(modes) != 1 or modes[0] not in known:
        raise _error(
            f"pooling by {', '.join(map(printable, modes)) or 'nothing'}", path, "supported: mean or cls"
        )
    return known[modes[0]]


def _max_length(value: Any, directory: Path) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 2):
        return value
    path = directory / "sentence_bert_config.json"
    raise _error(f"max_seq_length is {printable(value, 40)}", path, "it must be a number of tokens")


def _read(path: Path) -> Any:
    return read_json(path, what="embedding settings", error=ConfigError, code="RLX-C020")


def _optional(path: Path) -> dict[str, Any]:
    content = _read(path) if path.exists() else {}
    if not isinstance(content, dict):
        raise _error(f"{path.name} is not an object", path)
    return content


def _error(message: str, path: Path, hint: str = "download the file again") -> ConfigError:
    return ConfigError(message, code="RLX-C021", where=printable(path), hint=hint)
