"""Configs of encoders: other spellings, what is refused, and how long a text may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
from model_files import write_golden

import rlxflow
from rlxflow.errors import ConfigError, InputError

# as published with nomic-embed-text-v1.5, before transformers had the class
NOMIC = {
    "activation_function": "swiglu",
    "attn_pdrop": 0.0,
    "causal": False,
    "fused_bias_fc": True,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 768,
    "n_head": 12,
    "n_inner": 3072,
    "n_layer": 12,
    "n_positions": 8192,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 30528,
}


def parsed(raw: dict[str, Any]) -> Any:
    return rlxflow.find_recipe(raw["model_type"]).config(raw, "config.json")


def test_both_spellings_of_nomic_are_one_model() -> None:
    new = {
        "model_type": "nomic_bert",
        "vocab_size": 30528,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "hidden_act": "silu",
        "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
    }
    recipe = rlxflow.find_recipe("nomic_bert")
    flows = [recipe.flow(parsed(raw)) for raw in (NOMIC, new)]
    assert repr(flows[0]) == repr(flows[1])
    assert not flows[0].check()


@pytest.mark.parametrize(
    ("base", "change", "code"),
    [
        ("nomic_bert", {"prenorm": True}, "RLX-C004"),
        ("nomic_bert", {"rotary_emb_fraction": 0.5}, "RLX-C004"),
        ("nomic_bert", {"rotary_scaling_factor": 2.0}, "RLX-C004"),
        ("nomic_bert", {"n_embd": 32}, "RLX-C009"),
        ("roberta", {"position_embedding_type": "relative_key"}, "RLX-C004"),
        ("xlm-roberta", {"is_decoder": True}, "RLX-C004"),
        ("roberta", {"num_attention_heads": 5}, "RLX-C010"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "RLX-C004"),
        ("mpnet", {"max_distance": 64}, "RLX-C003"),
        ("distilbert", {"layer_norm_eps": 1e-5}, "RLX-C004"),
        ("distilbert", {"n_heads": 5}, "RLX-C010"),
        ("distilbert", {"activation": "tanhish"}, "RLX-C005"),
        ("modernbert", {"layer_norm_eps": 0.5}, "RLX-C009"),
        ("modernbert", {"layer_types": ["full_attention"]}, "RLX-C010"),
        ("modernbert", {"layer_types": ["chunked_attention"] * 4}, "RLX-C004"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "odd"}}}, "RLX-C006"),
    ],
)
def test_what_would_change_the_numbers_is_refused(base: str, change: dict[str, Any], code: str) -> None:
    recipe = rlxflow.find_recipe(base)
    with pytest.raises(ConfigError) as caught:
        recipe.flow(parsed({**goldens.hf_case(base, "plain").config, **change}))
    assert caught.value.code == code and caught.value.hint


def test_a_rope_kind_that_wants_lengths_is_refused() -> None:
    rope = {"rope_theta": 1000.0, "rope_type": "dynamic", "factor": 2.0}
    config = {**goldens.hf_case("nomic_bert", "plain").config, "rope_parameters": rope}
    (problem,) = rlxflow.find_recipe("nomic_bert").flow(parsed(config)).check()
    assert problem.code == "RLX-F031"


@pytest.mark.parametrize("model_type", ["roberta", "mpnet"])
def test_rows_for_padding_do_not_count_as_positions(model_type: str, tmp_path: Path) -> None:
    golden = goldens.hf_case(model_type, "plain")
    model = rlxflow.load(write_golden(tmp_path, golden))
    assert model.max_positions == golden.config["max_position_embeddings"] - 2
    ids = np.ones((1, model.max_positions + 1), np.int64)
    assert model(input_ids=ids[:, 1:])["last_hidden_state"].shape[1] == model.max_positions
    with pytest.raises(InputError) as caught:
        model(input_ids=ids)
    assert caught.value.code == "RLX-R016"
