"""GGUF metadata → the dictionary that the model's Hugging Face config.json would hold.

Every key under `<architecture>.` is used, or is on a list of keys without effect, or is an error: a
setting that changes the numbers is never dropped. Key meanings: ggml's docs/gguf.md and the readers in
llama.cpp's llama-model.cpp; rotary settings come out in the `rope_parameters` spelling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rlxflow.errors import printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.gguf_values import CONVERT_AGAIN, MAX_LAYERS, GgufValues
from rlxflow.weights.names import GgufName

if TYPE_CHECKING:
    from rlxflow.weights.gguf import GgufFile

_POOLING = {0: None, 1: "mean", 2: "cls", 3: "last"}


@dataclass(frozen=True)
class GgufRecipe:
    """How one kind of model is stored in GGUF files; a recipe's part for reading them.

    `architectures` are the values of `general.architecture` that mean this kind. `names` has a row for each
    parameter. `config` gives the fields of the Hugging Face config from the architecture's keys; it must ask
    for every key that has an effect, for one that nobody asks for stops the load. Model type, vocabulary size
    and special ids are added to it. `embeds` says that the metadata tell how token vectors make an embedding.
    """

    architectures: tuple[str, ...]
    names: tuple[GgufName, ...]
    config: Callable[[GgufValues], dict[str, Any]]
    embeds: bool = False


def gguf_config(file: GgufFile, model_type: str, recipe: GgufRecipe) -> dict[str, Any]:
    """The config of the model in `file`, which is of this recipe.

    `vocab_size` is the number of embedding rows. Raises `ConfigError` for a value that is missing, of the
    wrong type or out of range, values that contradict each other or the tensors, and keys that are not
    understood.
    """
    values = GgufValues(file)
    config = {"model_type": model_type} | recipe.config(values)
    _check_permuted(values, recipe, config)
    config |= _vocabulary(values, config["hidden_size"])
    values.check_all_used()
    return config


def gguf_pooling(file: GgufFile) -> str | None:
    """How an embedding model pools: "mean", "cls", "last", or None where the file does not say."""
    values = GgufValues(file)
    kind = values.integer("pooling_type", 0, low=0)
    if kind not in _POOLING:
        values.fail("RLX-C043", f"{values.name('pooling_type')} is {kind}", "0 none, 1 mean, 2 cls, 3 last")
    return _POOLING[kind]


def gguf_sizes(values: GgufValues) -> dict[str, Any]:
    """The sizes that every transformer has."""
    layers = values.integer("block_count", high=MAX_LAYERS)
    return {
        "num_hidden_layers": layers,
        "hidden_size": values.integer("embedding_length"),
        "intermediate_size": values.per_layer("feed_forward_length", layers),
        "num_attention_heads": values.per_layer("attention.head_count", layers),
        "max_position_embeddings": values.integer("context_length"),
    }


def gguf_head_dim(values: GgufValues, hidden_size: int, heads: int) -> int:
    """The size of a head: `attention.key_length`, or `hidden_size` / `heads`."""
    if not values.has("attention.key_length") and hidden_size % heads:
        message = f"{values.name('embedding_length')} {hidden_size} does not divide into {heads} heads"
        values.fail("RLX-C043", message, CONVERT_AGAIN)
    head_dim = values.integer("attention.key_length", hidden_size // heads)
    value_dim = values.integer("attention.value_length", head_dim)
    if value_dim != head_dim:
        message = f"keys have {head_dim} elements per head and values {value_dim}"
        values.fail("RLX-C044", message, "only models where they are equal are supported")
    return head_dim


def check_causal(values: GgufValues, expected: bool) -> None:
    """Raise `ConfigError` unless `attention.causal`, where it is given, is as expected."""
    if values.boolean("attention.causal", expected) is not expected:
        message = f"{values.name('attention.causal')} is not {str(expected).lower()}"
        values.fail("RLX-C044", message, "this variant of the architecture is not supported")


def _check_permuted(values: GgufValues, recipe: GgufRecipe, config: dict[str, Any]) -> None:
    # The converter permutes whole heads: with fewer rotary channels than that, the rows that llama.cpp
    # rotates are not the ones HF rotates. llama.cpp refuses such files too.
    partial = "partial_rotary_factor" in config.get("rope_parameters", {})
    if partial and any(row.heads for row in recipe.names):
        message = f"{values.name('rope.dimension_count')} is {values.integer('rope.dimension_count')}"
        values.fail("RLX-C043", f"{message}, a head has {config['head_dim']} elements", CONVERT_AGAIN)


def _vocabulary(values: GgufValues, hidden_size: int) -> dict[str, Any]:
    """Vocabulary size and special ids, checked against the embedding."""
    rows = embedding_rows(values, "token_embd.weight", hidden_size)
    metadata = values.file.metadata
    tokens = metadata.get("tokenizer.ggml.tokens")
    claims = {values.name("vocab_size"): metadata.get(f"{values.architecture}.vocab_size", rows)}
    if isinstance(tokens, list):
        claims["the number of tokens"] = len(tokens)
    for what, size in claims.items():
        if size != rows:
            message = f"{what} is {printable(size)}, the embedding has {rows} rows"
            values.fail(
                "RLX-C043", message, "metadata and tensors are of two models; convert the model again"
            )
    config: dict[str, Any] = {"vocab_size": rows}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        token_id = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if token_id is None:
            continue
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < rows:
            message = f"tokenizer.ggml.{key}_token_id is {printable(token_id)}, not an id below {rows}"
            values.fail("RLX-C042", message, CONVERT_AGAIN)
        config[f"{name}_token_id"] = token_id
    return config


def embedding_rows(values: GgufValues, name: str, width: int) -> int:
    """The rows of an embedding table `[rows, width]`; `ConfigError` where there is none of that width."""
    if not values.has_tensor(name):
        values.fail(
            "RLX-C041", f"the GGUF file has no tensor {name!r}", "it is not a whole model; fetch it again"
        )
    shape = values.file.info(name).shape
    if len(shape) != 2 or shape[1] != width:
        message = f"tensor {name!r} is {list(shape)}; {values.name('embedding_length')} is {width}"
        values.fail("RLX-C043", message, "metadata and tensors are of two models; convert the model again")
    return shape[0]
