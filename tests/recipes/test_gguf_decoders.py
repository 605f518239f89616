"""Decoders of every family as GGUF files, against Hugging Face and llama.cpp on the same models.

`oracles/gguf_decoders.py` writes the files as llama.cpp's converter does, with gguf-py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import goldens
import pytest
from model_files import run, write_golden, write_model

import rlxflow
from rlxflow.profile.load import load_profile

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))
from gguf_decoders import Quant, write_case
from gguf_writing import stored

TOLERANCE = 1e-5
NAMES = goldens.gguf_decoder_names()


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_hugging_face_and_llama_cpp(name: str, tmp_path: Path) -> None:
    golden, theirs = goldens.gguf_decoder_case(name)
    path = write_case(tmp_path / "m.gguf", {"config": golden.config, "shapes": golden.shapes}, golden.seed)
    model = rlxflow.load(path)
    actual = run(model, golden)
    assert golden.error(actual) <= TOLERANCE
    # llama.cpp takes GELU from a table of half floats
    assert goldens.error(actual, theirs) <= (2e-3 if "gemma" in name else TOLERANCE)
    assert model.report.params == sum(array.size for array in golden.weights.values())
    assert model.tokenizer is not None


@pytest.mark.parametrize("name", NAMES)
def test_same_numbers_as_the_safetensors_model(name: str, tmp_path: Path) -> None:
    golden, _ = goldens.gguf_decoder_case(name)
    path = write_case(tmp_path / "m.gguf", {"config": golden.config, "shapes": golden.shapes}, golden.seed)
    from_gguf = run(rlxflow.load(path), golden)
    from_directory = run(rlxflow.load(write_golden(tmp_path / "hf", golden)), golden)
    # norms that were stored as 1 + w, and float32 scales, may differ in the last bits
    assert goldens.error(from_gguf, from_directory) <= 1e-6


@pytest.mark.parametrize("quant", ["Q8_0", "Q4_0"])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    "name", ["mistral", "granite", "gemma2", "gemma3", "phi3", "olmo2", "smollm3", "cohere2"]
)
def test_quantised_files_hold_what_gguf_py_reads(name: str, backend: str, quant: str, tmp_path: Path) -> None:
    golden, _ = goldens.gguf_decoder_case(name)
    record, kind = {"config": golden.config, "shapes": golden.shapes}, Quant[quant]
    path = write_case(tmp_path / "m.gguf", record, golden.seed, kind)
    model = rlxflow.load(path, profile=load_profile("exact", [f"backend.name={backend}"]))
    other = write_model(tmp_path / "hf", golden.config, stored(golden.weights, kind))
    expected = run(rlxflow.load(other), golden)
    assert goldens.error(run(model, golden), expected) <= TOLERANCE
    assert golden.error(expected) > 1e-3  # rounding shows


def test_every_family_is_there() -> None:
    known = {golden.model_type for golden, _ in map(goldens.gguf_decoder_case, NAMES)}
    wanted = {name for name in goldens.hf_decoders() if rlxflow.find_recipe(name).gguf}  # type: ignore[attr-defined]
    assert wanted - {"llama", "qwen2", "qwen3"} <= known
