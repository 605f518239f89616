"""StarCoder 2: biased LayerNorms, an MLP without gate, a window or none."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, YARN_LONG, Case, Config, llama, new_rope
from perturb import flipped


def starcoder2(**fields: Any) -> Config:
    base = {"model_type": "starcoder2", "architectures": ["Starcoder2ForCausalLM"], "rope_theta": 1000.0}
    norm = {"rms_norm_eps": ABSENT, "norm_epsilon": 0.05}
    own = {"hidden_act": "gelu_pytorch_tanh", "num_key_value_heads": 2, "sliding_window": None}
    return llama(**{**base, **norm, **own, **fields})


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "tie_word_embeddings", usual=True)
    if config["norm_epsilon"] > 1e-4:
        yield "norm_epsilon", {**config, "norm_epsilon": 1e-6}
    window = config["sliding_window"]
    yield "sliding_window", {**config, "sliding_window": 5 if window is None else window + 1}


CASES = [
    Case("plain", starcoder2(vocab_size=53)),
    Case("window", starcoder2(vocab_size=53, sliding_window=4), (19, 13, 4)),
    Case("window_left_padding", starcoder2(vocab_size=53, sliding_window=3, use_bias=True), (15, 8), "left"),
    Case("untied_mha", starcoder2(vocab_size=53, tie_word_embeddings=False, num_key_value_heads=4), (11, 7)),
    Case("exact_gelu_mqa", starcoder2(vocab_size=53, hidden_act="gelu", num_key_value_heads=1), (9, 16)),
    Case("relu_three_layers", starcoder2(vocab_size=53, hidden_act="relu", num_hidden_layers=3), (12, 5)),
    Case("yarn", starcoder2(vocab_size=53, hidden_size=64, **new_rope(**YARN_LONG)), (18, 20)),
    Case(
        "usual_eps",
        starcoder2(vocab_size=53, norm_epsilon=1e-5, hidden_size=64, **IDLE_FIELDS),
        (10, 6),
        tags=("usual_eps",),
    ),
]
