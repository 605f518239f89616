"""GGUF metadata → the dictionary that the model's Hugging Face config.json would hold.

Every key under `<architecture>.` is used, or is on a list of keys without effect, or is an error: a
setting that changes the numbers is never dropped. Key meanings: ggml's docs/gguf.md and the readers in
llama.cpp's llama-model.cpp; rotary settings come out in the `rope_parameters` spelling.
"""

from __future__ import annotations

from typing import Any

from rlxflow.errors import printable
from rlxflow.weights.gguf import GgufFile
from rlxflow.weights.gguf_rope import rope_parameters
from rlxflow.weights.gguf_values import CONVERT_AGAIN, MAX_LAYERS, GgufValues

_POOLING = {0: None, 1: "mean", 2: "cls", 3: "last"}


def gguf_config(file: GgufFile) -> dict[str, Any]:
    """The config of the model in `file`, for the architectures llama, qwen2, qwen3 and bert.

    `vocab_size` is the number of embedding rows and `tie_word_embeddings` is true where the file has no
    `output.weight`. A file with `rope_freqs.weight` (llama3 scaling, whose settings GGUF does not keep)
    gives a longrope with equal factors for all lengths, which computes the same angles.

    Raises `ConfigError` for an unknown architecture, a value that is missing, of the wrong type or out of
    range, values that contradict each other or the tensors, and keys that are not understood.
    """
    values = GgufValues(file)
    config = _bert(values) if values.architecture == "bert" else _decoder(values)
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


def _decoder(values: GgufValues) -> dict[str, Any]:
    """llama, qwen2 and qwen3."""
    config = _sizes(values)
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    kv_heads = values.per_layer("attention.head_count_kv", layers, heads)
    if kv_heads > heads or heads % kv_heads:
        message = f"{heads} attention heads do not divide among {kv_heads} key-value heads"
        values.fail("RLX-C043", message, CONVERT_AGAIN)
    head_dim = _head_dim(values, config["hidden_size"], heads)
    config |= {
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": values.number("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope_parameters(values, head_dim, config["max_position_embeddings"]),
        "tie_word_embeddings": not values.has_tensor("output.weight"),
    }
    if values.architecture != "qwen2":  # qwen2 always has biases on q, k and v
        config["attention_bias"] = values.has_tensor("blk.0.attn_q.bias")
    if values.architecture == "llama":
        config["mlp_bias"] = values.has_tensor("blk.0.ffn_gate.bias")
    _check_causal(values, True)
    return config


def _bert(values: GgufValues) -> dict[str, Any]:
    config = _sizes(values)
    heads = config["num_attention_heads"]
    if values.per_layer("attention.head_count_kv", config["num_hidden_layers"], heads) != heads:
        values.fail("RLX-C043", "a bert model has as many key-value heads as heads", CONVERT_AGAIN)
    _head_dim(values, config["hidden_size"], heads)
    _check_causal(values, False)
    return config | {
        # GGUF keeps neither: every BERT that llama.cpp converts has them so.
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "layer_norm_eps": values.number("attention.layer_norm_epsilon"),
        "type_vocab_size": _rows(values, "token_types.weight", config["hidden_size"]),
    }


def _sizes(values: GgufValues) -> dict[str, Any]:
    layers = values.integer("block_count", high=MAX_LAYERS)
    return {
        "model_type": values.architecture,
        "num_hidden_layers": layers,
        "hidden_size": values.integer("embedding_length"),
        "intermediate_size": values.per_layer("feed_forward_length", layers),
        "num_attention_heads": values.per_layer("attention.head_count", layers),
        "max_position_embeddings": values.integer("context_length"),
    }


def _head_dim(values: GgufValues, hidden_size: int, heads: int) -> int:
    if not values.has("attention.key_length") and hidden_size % heads:
        message = f"{values.name('embedding_length')} {hidden_size} does not divide into {heads} heads"
        values.fail("RLX-C043", message, CONVERT_AGAIN)
    head_dim = values.integer("attention.key_length", hidden_size // heads)
    value_dim = values.integer("attention.value_length", head_dim)
    if value_dim != head_dim:
        message = f"keys have {head_dim} elements per head and values {value_dim}"
        values.fail("RLX-C044", message, "only models where they are equal are supported")
    if values.architecture == "bert" and head_dim * heads != hidden_size:
        values.fail("RLX-C043", f"{heads} heads of {head_dim} are not {hidden_size} wide", CONVERT_AGAIN)
    return head_dim


def _check_causal(values: GgufValues, expected: bool) -> None:
    if values.boolean("attention.causal", expected) is not expected:
        message = f"{values.name('attention.causal')} is not {str(expected).lower()}"
        values.fail("RLX-C044", message, "this variant of the architecture is not supported")


def _vocabulary(values: GgufValues, hidden_size: int) -> dict[str, Any]:
    """Vocabulary size and special ids, checked against the embedding."""
    rows = _rows(values, "token_embd.weight", hidden_size)
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


def _rows(values: GgufValues, name: str, width: int) -> int:
    """The rows of an embedding table `[rows, width]`."""
    if not values.has_tensor(name):
        values.fail(
            "RLX-C041", f"the GGUF file has no tensor {name!r}", "it is not a whole model; fetch it again"
        )
    shape = values.file.info(name).shape
    if len(shape) != 2 or shape[1] != width:
        message = f"tensor {name!r} is {list(shape)}; {values.name('embedding_length')} is {width}"
        values.fail("RLX-C043", message, "metadata and tensors are of two models; convert the model again")
    return shape[0]
