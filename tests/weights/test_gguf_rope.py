"""GGUF rotary settings → `rope_parameters`: each scaling, and the tensors of frequency divisors."""

from __future__ import annotations

import gguf_bytes as g
import numpy as np
import pytest

from rlxflow.errors import ConfigError
from rlxflow.runtime.model_files import GgufModelFiles

YARN = {
    "rope__scaling__type": "yarn",
    "rope__scaling__factor": 4.0,
    "rope__scaling__original_context_length": 32,
}
ROPE = {
    "linear": (
        {"rope__scaling__type": "linear", "rope__scaling__factor": 2.5},
        {"rope_type": "linear", "factor": 2.5},
    ),
    "linear-without-type": ({"rope__scaling__factor": 2.0}, {"rope_type": "linear", "factor": 2.0}),
    "linear-old-key": ({"rope__scale_linear": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    "linear-of-1": (
        {"rope__scaling__type": "linear", "rope__scaling__factor": 1.0},
        {"rope_type": "default"},
    ),
    "none": ({"rope__scaling__type": "none"}, {"rope_type": "default"}),
    "yarn": (YARN, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}),
    "yarn-betas": (
        YARN
        | {
            "rope__scaling__yarn_beta_fast": 16.0,
            "rope__scaling__yarn_beta_slow": 2.0,
            "rope__scaling__yarn_ext_factor": 1.0,
            "rope__scaling__yarn_log_multiplier": 0.0,
        },
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
        },
    ),
}


@pytest.mark.parametrize("name", ROPE)
def test_rope(tmp_path, name):
    changes, expected = ROPE[name]
    config = GgufModelFiles(g.write(tmp_path, g.llama(**changes))).config
    assert config["rope_parameters"] == {"rope_theta": 10000.0} | expected


def llama3_divisors(
    dim: int, theta: float, factor: float, low: float, high: float, context: int
) -> np.ndarray:
    """Divisors of the rotary frequencies for llama 3.1 (the formula of its model card)."""
    out = []
    for i in range(0, dim, 2):
        wavelength = 2 * np.pi * theta ** (i / dim)
        if wavelength < context / high:
            out.append(1.0)
        elif wavelength > context / low:
            out.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            out.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(out, np.float32)


def write_with_factors(path, tensors: dict[str, np.ndarray], **changes) -> None:
    """TINY_LLAMA with heads of 64 and these extra tensors."""
    metadata = {**g.TINY_LLAMA, "llama.attention.key_length": 64, "llama.attention.value_length": 64,
                "llama.rope.dimension_count": 64, "llama.rope.freq_base": 500000.0}  # fmt: skip
    metadata |= {f"llama.{key.replace('__', '.')}": value for key, value in changes.items()}
    arrays = {"token_embd.weight": np.ones((5, 8), np.float32)} | tensors
    entries, data = [], b""
    for name, array in arrays.items():
        kind = {"float32": g.TYPE_F32, "float16": g.TYPE_F16}[array.dtype.name]
        entries.append(g.tensor(name, list(array.shape[::-1]), kind, len(data)))
        data += array.tobytes() + bytes(-array.nbytes % 32)
    pairs = [g.encode(key, value) for key, value in metadata.items()]
    path.write_bytes(g.build(pairs=pairs, tensors=entries, data=data))


def test_llama3_scaling_from_rope_freqs(tmp_path):
    divisors = llama3_divisors(64, 500000.0, 8.0, 1.0, 4.0, 8192)
    write_with_factors(tmp_path / "m.gguf", {"rope_freqs.weight": divisors})
    rope = GgufModelFiles(tmp_path / "m.gguf").config["rope_parameters"]
    assert rope["rope_type"] == "longrope" and rope["attention_factor"] == 1.0
    assert rope["long_factor"] == rope["short_factor"]
    assert np.array_equal(np.array(rope["short_factor"], np.float32), divisors)
    assert 1.0 in rope["short_factor"] and 8.0 in rope["short_factor"]


def test_longrope_factors(tmp_path):
    long, short = np.linspace(1, 9, 32).astype(np.float32), np.linspace(1, 2, 32).astype(np.float32)
    write_with_factors(
        tmp_path / "m.gguf",
        {"rope_factors_long.weight": long, "rope_factors_short.weight": short},
        rope__scaling__type="longrope",
        rope__scaling__original_context_length=16,
        rope__scaling__attn_factor=1.25,
    )
    rope = GgufModelFiles(tmp_path / "m.gguf").config["rope_parameters"]
    assert np.array_equal(np.array(rope.pop("long_factor"), np.float32), long)
    assert np.array_equal(np.array(rope.pop("short_factor"), np.float32), short)
    assert rope == {"rope_type": "longrope", "rope_theta": 500000.0, "original_max_position_embeddings": 16,
                    "attention_factor": 1.25}  # fmt: skip


GOOD = np.ones(32, np.float32)
BAD_FACTORS = {
    "wrong-length": ({"rope_freqs.weight": GOOD[:31]}, {}, "C043", "convert the model again"),
    "wrong-type": ({"rope_freqs.weight": GOOD.astype(np.float16)}, {}, "C043", "convert the model again"),
    "zero": ({"rope_freqs.weight": GOOD * 0}, {}, "C042", "safetensors"),
    "nan": ({"rope_freqs.weight": GOOD * np.nan}, {}, "C042", "safetensors"),
    "with-linear": ({"rope_freqs.weight": GOOD}, {"rope__scaling__factor": 2.0}, "C044", "safetensors"),
    "longrope-without-tensors": ({}, {"rope__scaling__type": "longrope"}, "C041", "safetensors"),
}


@pytest.mark.parametrize("name", BAD_FACTORS)
def test_bad_rope_factors(tmp_path, name):
    tensors, changes, code, hint = BAD_FACTORS[name]
    write_with_factors(tmp_path / "m.gguf", tensors, **changes)
    with pytest.raises(ConfigError) as caught:
        _ = GgufModelFiles(tmp_path / "m.gguf").config
    assert caught.value.code == f"RLX-{code}" and hint in caught.value.hint
