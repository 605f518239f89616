"""Wrong readings of a config: each field that changes the graph, with another value.

A golden of a tiny model is worth something only where a recipe that misreads a field gives another output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Config = dict[str, Any]

# The tanh form of GELU differs from the exact one by less than 5e-4 anywhere, so mistaking one for the other
# cannot move an output as far as other mistakes do.
NEAR_ACT = {"gelu": "gelu_pytorch_tanh", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu"}
OTHER_ACT = {"gelu": "silu", "gelu_new": "silu", "gelu_pytorch_tanh": "relu", "relu": "gelu", "silu": "gelu"}
NEAR_FIELD = "hidden_act (other GELU)"
FLAGS = {
    "bert": (),
    "llama": ("attention_bias", "mlp_bias", "tie_word_embeddings"),
    "qwen2": ("tie_word_embeddings",),
    "qwen3": ("attention_bias", "tie_word_embeddings"),
}


def perturbations(config: Config) -> Iterator[tuple[str, Config]]:
    """(field, config with that field changed) for every field of `config` that changes the graph."""
    for field in ("rms_norm_eps", "layer_norm_eps"):
        if config.get(field, 0.0) > 1e-4:
            yield field, {**config, field: 1e-6}
    act = "hidden_activation" if config.get("hidden_activation") else "hidden_act"
    if act in config:
        yield act, {**config, act: OTHER_ACT[config[act]]}
        if config[act] in NEAR_ACT and config["model_type"] != "gemma":  # which takes both for the tanh form
            yield NEAR_FIELD, {**config, act: NEAR_ACT[config[act]]}
    yield "num_hidden_layers", _with_layers(config, config["num_hidden_layers"] - 1)
    yield from flipped(config, *FLAGS.get(config["model_type"], ()))
    yield from _heads(config)
    yield from _windows(config)
    if config["model_type"] != "bert":
        yield from _rope(config)


def flipped(config: Config, *flags: str, usual: bool = False) -> Iterator[tuple[str, Config]]:
    """Each of these flags the other way; `usual` is what an absent one means."""
    return ((flag, {**config, flag: not config.get(flag, usual)}) for flag in flags)


def times(config: Config, *fields: str, factor: float = 1.3) -> Iterator[tuple[str, Config]]:
    """Each of these fields, where the config has a number there, times a factor."""
    return ((f, {**config, f: factor * config[f]}) for f in fields if config.get(f) is not None)


def _with_layers(config: Config, count: int) -> Config:
    changed = {**config, "num_hidden_layers": count}
    if "layer_types" in config:
        changed["layer_types"] = config["layer_types"][:count]
    return changed


def _heads(config: Config) -> Iterator[tuple[str, Config]]:
    """More and narrower heads: every weight keeps its shape (but the norms of q and k)."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads, head_dim = config.get("num_key_value_heads"), config.get("head_dim")
    width = head_dim or hidden // heads
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    for factor in (2, 3, 5):
        if width % (2 * factor) == 0 and hidden % (heads * factor) == 0 and "long_factor" not in rope:
            changed = {**config, "num_attention_heads": heads * factor}
            if kv_heads:
                changed["num_key_value_heads"] = kv_heads * factor
            if head_dim:
                changed["head_dim"] = head_dim // factor
            yield "num_attention_heads", changed
            return


def _windows(config: Config) -> Iterator[tuple[str, Config]]:
    if "use_sliding_window" not in config:
        return
    if not config["use_sliding_window"]:
        yield "use_sliding_window", {**config, "use_sliding_window": True}
        return
    yield "sliding_window", {**config, "sliding_window": config["sliding_window"] + 1}
    if "layer_types" in config:
        other = {"full_attention": "sliding_attention", "sliding_attention": "full_attention"}
        yield "layer_types", {**config, "layer_types": [other[kind] for kind in config["layer_types"]]}
    else:
        yield "use_sliding_window", {**config, "use_sliding_window": False}
        if "max_window_layers" in config:
            yield "max_window_layers", {**config, "max_window_layers": config["max_window_layers"] + 1}


def _rope(config: Config) -> Iterator[tuple[str, Config]]:
    place = "rope_parameters" if "rope_parameters" in config else "rope_scaling"
    rope = config.get(place) or {}
    if any(isinstance(value, dict) for value in rope.values()):
        return  # one for each kind of layer
    if "rope_theta" in config or not rope:
        yield "rope_theta", {**config, "rope_theta": 2 * config.get("rope_theta", 10000.0)}
    for field, value in rope.items():
        if field in ("rope_type", "type"):
            theta = {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}
            plain = {**config, place: {"rope_type": "default", **theta}}
            if value != "default":
                yield "rope_type", plain
        else:
            yield field, {**config, place: {**rope, field: _other(field, value)}}
    if "original_max_position_embeddings" in config:
        size = config["original_max_position_embeddings"]
        yield "original_max_position_embeddings", {**config, "original_max_position_embeddings": 3 * size}
    if rope.get("rope_type", rope.get("type")) == "dynamic" or (
        "long_factor" in rope and "factor" not in rope and "attention_factor" not in rope
    ):
        size = config["max_position_embeddings"]
        yield "max_position_embeddings", {**config, "max_position_embeddings": size + 8}


def _other(field: str, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [1.3 * item for item in value]
    if isinstance(value, int):
        return 3 * value
    return 2.0 * value if field == "rope_theta" else 1.3 * value
