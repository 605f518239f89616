"""A real file: SmolLM2-135M-Instruct in Q4_1, where its package is installed."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import real_models

from rlxflow import find_recipe
from rlxflow.dequantize import dequantize
from rlxflow.runtime.model_files import GgufModelFiles
from rlxflow.weights.gguf import GgufFile
from rlxflow.weights.names import GgufModel


@pytest.fixture(scope="module")
def path() -> Path:
    return real_models.smollm2()


@pytest.fixture(scope="module")
def reader(path) -> gguf.GGUFReader:
    return gguf.GGUFReader(path)


def test_config(path):
    config = GgufModelFiles(path).config
    # As in the config.json of HuggingFaceTB/SmolLM2-135M-Instruct.
    expected = {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "hidden_act": "silu",
        "vocab_size": 49152,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    assert {key: config[key] for key in expected} == expected
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 100000.0}


def test_every_tensor_has_the_bytes_that_gguf_py_sees(path, reader):
    file = GgufFile(path)
    assert list(file.keys()) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        info = file.info(tensor.name)
        assert info.dtype.name == tensor.tensor_type.name.lower()
        assert info.shape == tuple(int(size) for size in reversed(tensor.shape))
        assert np.array_equal(
            file.read(tensor.name).view(np.uint8).ravel(), tensor.data.view(np.uint8).ravel()
        )


def test_every_tensor_has_an_hf_name(path):
    model = GgufModel(GgufFile(path), find_recipe("llama").gguf.names, num_heads=9, num_kv_heads=3)
    keys = set(model.keys())
    assert len(keys) == 2 + 9 * 30
    assert all(key.startswith("model.") for key in keys) and "lm_head.weight" not in keys


@pytest.mark.parametrize("name, hf, heads", [
    ("token_embd.weight", "model.embed_tokens.weight", 0),
    ("blk.7.ffn_down.weight", "model.layers.7.mlp.down_proj.weight", 0),
    ("blk.29.attn_q.weight", "model.layers.29.self_attn.q_proj.weight", 9),
    ("blk.29.attn_k.weight", "model.layers.29.self_attn.k_proj.weight", 3),
])  # fmt: skip
def test_values(path, reader, name, hf, heads):
    model = GgufModel(GgufFile(path), find_recipe("llama").gguf.names, num_heads=9, num_kv_heads=3)
    tensor = next(t for t in reader.tensors if t.name == name)
    expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    if heads:
        # GGUF row 2j + s of a head is HF row 32s + j.
        order = [64 * head + 2 * j + s for head in range(heads) for s in range(2) for j in range(32)]
        expected = expected[order]
    ours = dequantize(model.info(hf).dtype, model.read(hf))
    assert np.array_equal(ours.view(np.uint32), expected.view(np.uint32))
