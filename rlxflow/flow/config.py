"""Reading config.json honestly: every field is handled, ignored by name, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlxflow.errors import ConfigError, nearest, printable
from rlxflow.ops.activation import Activation

# Fields that do not change what a forward pass computes.
IGNORED = frozenset(
    [
        *("architectures", "model_type", "transformers_version", "torch_dtype"),
        *("dtype", "use_bfloat16", "auto_map"),
        *("use_cache", "output_attentions", "output_hidden_states", "output_past"),
        *("return_dict", "torchscript"),
        *("initializer_range", "initializer_cutoff_factor"),
        *("gradient_checkpointing", "pretraining_tp", "chunk_size_feed_forward"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id"),
        *("cls_token_id", "decoder_start_token_id", "tokenizer_class"),
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params"),
        *("is_llama_config", "max_sequence_length", "transformers.js_config"),
        *("unsloth_fixed", "unsloth_version"),
    ]
)

Size = Annotated[int, Field(gt=0, le=2**31)]
LayerCount = Annotated[int, Field(ge=0, le=1000)]
Eps = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class RecipeConfig(BaseModel):
    """Base of a recipe's config: declare the fields you handle, with Hugging Face's names and defaults.

    `ignored` lists further fields that do not change the numbers, `renamed` other names of fields, as
    {name in the config: field}. A field that is neither handled nor ignored stops the load. Use `Literal` for
    a field of which only some values are supported.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", protected_namespaces=())
    ignored: ClassVar[frozenset[str]] = frozenset()
    renamed: ClassVar[Mapping[str, str]] = {}

    @property
    def max_tokens(self) -> int | None:
        """The longest sequence the model was made for."""
        found: int | None = getattr(self, "max_position_embeddings", None)
        return found

    @classmethod
    def parse(cls, raw: Mapping[str, Any], where: str = "config.json") -> Self:
        """The checked config; raises `ConfigError` that lists every field at fault."""
        want_one_part(raw, where)
        _want_unquantised(raw, where)
        raw = _under_field_names(raw, cls.renamed, where)
        skipped = IGNORED | cls.ignored
        known = {
            k: v for k, v in raw.items() if k in cls.model_fields or not (k in skipped or _of_training(k))
        }
        known.pop("quantization_config", None)  # null here
        unknown = sorted(set(known) - set(cls.model_fields))
        if unknown:
            shown = ", ".join(f"{printable(k, 60)} = {printable(known[k], 40)}" for k in unknown[:8])
            guess = nearest(unknown[0], cls.model_fields.keys() - known.keys())
            raise ConfigError(
                f"{len(unknown)} config fields are not understood: {shown}",
                code="RLX-C003",
                where=where,
                hint=guess
                or "they may change the numbers, so nothing is loaded; "
                "remove them, or let the recipe's config name them",
                details={"fields": unknown},
            )
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            raise _config_error(error, where) from None
        except ConfigError as error:
            error.where = ": ".join(part for part in (where, error.where) if part)
            raise


def _of_training(name: str) -> bool:
    """Whether a field is private to its writer, or a rate of dropout: these are 0 when a model is used."""
    return name.startswith("_") or "dropout" in name or name.endswith("pdrop")


def _under_field_names(raw: Mapping[str, Any], renamed: Mapping[str, str], where: str) -> dict[str, Any]:
    fields = {name: value for name, value in raw.items() if name not in renamed}
    for name, field in renamed.items():
        if name in raw and fields.setdefault(field, raw[name]) != raw[name]:
            values = f"{printable(fields[field], 40)} and {printable(raw[name], 40)}"
            message = f"{field}, by its other name {name}, has two values, {values}"
            raise ConfigError(message, code="RLX-C009", where=where, hint="keep one of the two spellings")
    return fields


def want_one_part(raw: Mapping[str, Any], where: str) -> None:
    """Refuse the config of a model of several parts, such as `text_config` and `vision_config`."""
    nested = {k for k, v in raw.items() if k.endswith("_config") and isinstance(v, dict) and v}
    parts = sorted(nested - IGNORED)
    if parts and parts != ["quantization_config"]:
        raise ConfigError(
            f"the model has several parts: {', '.join(printable(name, 40) for name in parts[:4])}",
            code="RLX-C011",
            where=where,
            hint="only models of one part are read; look for the text model's own checkpoint",
            details={"parts": parts},
        )


def _want_unquantised(raw: Mapping[str, Any], where: str) -> None:
    found = raw.get("quantization_config")
    if found is not None:
        name = found.get("quant_method", "?") if isinstance(found, dict) else "?"
        raise ConfigError(
            f"the checkpoint is quantised ({printable(name, 40)})",
            code="RLX-C002",
            where=where,
            hint="use the base checkpoint, or a GGUF file",
        )


def _config_error(error: ValidationError, where: str) -> ConfigError:
    """Every field at fault in one line; a missing one has no value to show."""
    found = [(".".join(map(str, e["loc"])), e) for e in error.errors(include_url=False)]
    lines = [
        f"{printable(name, 60)} is missing"
        if e["type"] == "missing"
        else f"{printable(name, 60)}: {printable(e['msg'])} (found {printable(repr(e['input']), 60)})"
        for name, e in found
    ]
    return ConfigError(
        "; ".join(lines[:6]) + (f"; and {len(lines) - 6} more" if len(lines) > 6 else ""),
        code="RLX-C004",
        where=where,
        hint="correct the field, or download the file again",
        details={"fields": [name for name, _ in found]},
    )


ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}


def activation(name: str) -> Activation:
    """The activation of HF's `hidden_act` name; raises `ConfigError` for one we do not have."""
    if name not in ACTIVATIONS:
        hint = nearest(name, ACTIVATIONS) or f"supported: {', '.join(ACTIVATIONS)}"
        raise ConfigError(
            f"unknown activation {printable(name)!r}", code="RLX-C005", where="hidden_act", hint=hint
        )
    return ACTIVATIONS[name]
