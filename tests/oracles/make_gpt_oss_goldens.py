"""Writes tests/goldens/gpt_oss.json and .npz: sinks and clamped networks of HF's gpt-oss.

    python tests/oracles/make_gpt_oss_goldens.py      (needs torch and transformers)

Each case is a whole `GptOssModel` with one expert, whose routing weight is one: a dense model. Stored are the
config, the token ids and the last hidden states; weights are drawn by tests/tiny_weights.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import GptOssConfig, GptOssModel

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_weights import tiny_tensor

PLAIN = {
    "vocab_size": 20, "hidden_size": 16, "intermediate_size": 12, "head_dim": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 2, "num_local_experts": 1, "num_experts_per_tok": 1,
    "max_position_embeddings": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "layer_types": ["full_attention", "full_attention"], "sliding_window": 4,
    "swiglu_limit": 7.0, "swiglu_alpha": 1.702, "rms_norm_eps": 1e-5,
}  # fmt: skip
CASES = {
    "plain": {},
    "sliding": {"layer_types": ["sliding_attention", "full_attention"]},
    "tight": {"swiglu_limit": 0.8, "swiglu_alpha": 1.1},
    "one_key_head": {"num_key_value_heads": 1, "sliding_window": 2, "layer_types": ["sliding_attention"] * 2},
}


def main() -> None:
    configs, arrays = {}, {}
    for name, changes in CASES.items():
        configs[name] = {**PLAIN, **changes}
        model = GptOssModel(GptOssConfig(**configs[name], attn_implementation="eager")).eval().float()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                drawn = tiny_tensor(key, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(drawn))
            ids = np.random.default_rng(sum(name.encode())).integers(0, 20, (2, 11))
            arrays[f"{name}/ids"] = ids
            arrays[f"{name}/hidden"] = model(torch.from_numpy(ids), use_cache=False).last_hidden_state.numpy()
    goldens = Path(__file__).parents[1] / "goldens"
    (goldens / "gpt_oss.json").write_text(json.dumps(configs, indent=1) + "\n")
    np.savez_compressed(goldens / "gpt_oss.npz", **arrays)


if __name__ == "__main__":
    main()
