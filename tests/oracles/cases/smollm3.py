"""SmolLM3: every fourth layer without rope, or as a list says; windows on those only."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, YARN_LONG, Case, Config, llama, new_rope
from perturb import flipped


def smollm3(**fields: Any) -> Config:
    base = {"model_type": "smollm3", "architectures": ["SmolLM3ForCausalLM"], "rope_theta": 1000.0}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # the defaults are beyond the vocabulary
    return llama(
        **{**base, "vocab_size": 53, **ids, "num_key_value_heads": 2, "no_rope_layer_interval": 2, **fields}
    )


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "attention_bias", "mlp_bias")
    yield from flipped(config, "tie_word_embeddings", usual=True)
    layers = config["num_hidden_layers"]
    interval = config.get("no_rope_layer_interval", 4)
    ropes = config.get("no_rope_layers") or [int((i + 1) % interval != 0) for i in range(layers)]
    yield "no_rope_layers", {**config, "no_rope_layers": [1 - rope for rope in ropes]}
    if config.get("use_sliding_window"):
        yield "sliding_window", {**config, "sliding_window": config["sliding_window"] + 1}


WINDOW = {"use_sliding_window": True, "sliding_window": 5}

CASES = [
    Case("plain", smollm3()),
    Case(
        "interval_absent",
        smollm3(no_rope_layer_interval=ABSENT, num_hidden_layers=4, hidden_size=32),
        (18, 9),
    ),
    Case("listed", smollm3(no_rope_layers=[0, 1, 1], num_hidden_layers=3), (12, 17), "left"),
    Case("untied_mha", smollm3(tie_word_embeddings=False, num_key_value_heads=4), (11, 20)),
    Case("window", smollm3(**WINDOW), (19, 13, 4)),
    Case(
        "window_by_type",
        smollm3(**WINDOW, layer_types=["sliding_attention", "full_attention"], no_rope_layers=[1, 0]),
        (21, 12),
        "left",
    ),
    Case("all_biases", smollm3(attention_bias=True, mlp_bias=True, num_key_value_heads=1), (16, 3)),
    Case("yarn_gelu", smollm3(hidden_size=64, hidden_act="gelu", **new_rope(**YARN_LONG)), (18, 26)),
    Case(
        "usual_eps",
        smollm3(rms_norm_eps=1e-6, hidden_size=64, **IDLE_FIELDS, max_window_layers=28),
        tags=("usual_eps",),
    ),
]
