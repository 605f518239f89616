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
        "architectures",
        "model_type",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "use_cache",
        "initializer_range",
        "attention_dropout",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "classifier_dropout",
        "gradient_checkpointing",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "sep_token_id",
        "cls_token_id",
        "decoder_start_token_id",
        "pretraining_tp",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "id2label",
        "label2id",
        "problem_type",
        "finetuning_task",
        "num_labels",
        "auto_map",
        "tokenizer_class",
        "task_specific_params",
        "use_bfloat16",
        "rope_interleaved",
        "transformers.js_config",
    ]
)

Size = Annotated[int, Field(gt=0, le=2**31)]
LayerCount = Annotated[int, Field(ge=0, le=100_000)]
Eps = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class RecipeConfig(BaseModel):
    """Base of a recipe's config: declare the fields you handle, with Hugging Face's names and defaults.

    `ignored` lists further fields that do not change the numbers. A field that is neither handled nor
    ignored stops the load. Use `Literal` for a field of which only some values are supported.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", protected_namespaces=())
    ignored: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def parse(cls, raw: Mapping[str, Any], where: str = "config.json") -> Self:
        """The checked config; raises `ConfigError` that lists every field at fault."""
        if raw.get("quantization_config") is not None:
            method = raw["quantization_config"]
            name = method.get("quant_method", "?") if isinstance(method, dict) else "?"
            raise ConfigError(
                f"the checkpoint is quantised ({printable(name)})",
                code="RLX-C002",
                where=where,
                hint="use the base checkpoint, or a GGUF file",
            )
        skipped = IGNORED | cls.ignored
        known = {
            k: v for k, v in raw.items() if k in cls.model_fields or not (k in skipped or k.startswith("_"))
        }
        unknown = sorted(set(known) - set(cls.model_fields))
        if unknown:
            shown = ", ".join(f"{printable(k)} = {printable(known[k], 40)}" for k in unknown[:8])
            guess = nearest(unknown[0], cls.model_fields)
            raise ConfigError(
                f"{len(unknown)} config fields are not understood: {shown}",
                code="RLX-C003",
                where=where,
                hint=guess or "they may change the numbers, so nothing is loaded; remove them if they do not",
                details={"fields": unknown},
            )
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            raise _config_error(error, where) from None


def _config_error(error: ValidationError, where: str) -> ConfigError:
    found = [(".".join(map(str, e["loc"])), e["msg"], e.get("input")) for e in error.errors()]
    lines = [
        f"{name or 'config'}: {printable(message)} (found {printable(value, 60)})"
        for name, message, value in found
    ]
    return ConfigError(
        "; ".join(lines[:6]),
        code="RLX-C004",
        where=where,
        hint="correct the field, or download the file again",
        details={"fields": [name for name, _, _ in found]},
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
