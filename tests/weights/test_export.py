"""Saving: tensors byte for byte as loaded, whatever was fused; whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import goldens
import ml_dtypes
import numpy as np
import pytest
from model_files import run, write_golden, write_model
from safetensors.numpy import load_file

import rlxflow
from rlxflow.errors import InputError, RlxError, UnsupportedFile, WeightsError
from rlxflow.weights.export import save_checkpoint


def tensors(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors of a directory, read by the safetensors library."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


def assert_same_bytes(one: Path, other: Path) -> None:
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys() and a
    for key, array in a.items():
        assert array.dtype == b[key].dtype and array.shape == b[key].shape
        assert array.tobytes() == b[key].tobytes(), key


@pytest.mark.parametrize("model_type", ["bert", "llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("shards", [1, 3])
def test_round_trip(model_type: str, shards: int, tmp_path: Path) -> None:
    golden = goldens.hf_case(model_type, "plain")
    weights = {**golden.weights, "not.of.the.model": np.arange(3, dtype=np.int64)}
    folder = write_model(tmp_path / "a", golden.config, weights, shards)
    (folder / "tokenizer_config.json").write_text('{"é": 1}', encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}', encoding="utf-8")
    (folder / "modeling.py").write_text("raise SystemExit", encoding="utf-8")
    model = rlxflow.load(folder)
    saved = model.save(tmp_path / "b")
    assert_same_bytes(folder, saved)
    for name in ("config.json", "tokenizer_config.json", "1_Pooling/config.json"):
        assert (saved / name).read_bytes() == (folder / name).read_bytes()
    assert not (saved / "modeling.py").exists()
    again = rlxflow.load(saved)
    assert np.array_equal(run(again, golden), run(model, golden))
    assert again.graph.digest == model.graph.digest


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
def test_stored_types_are_kept(dtype: Any, tmp_path: Path) -> None:
    golden = goldens.hf_case("qwen3", "plain")
    weights = {key: value.astype(dtype) for key, value in golden.weights.items()}
    folder = write_model(tmp_path / "a", golden.config, weights)
    assert_same_bytes(folder, rlxflow.load(folder).save(tmp_path / "b"))


def test_shards_and_index(tmp_path: Path) -> None:
    golden = goldens.hf_case("llama", "plain")
    source = rlxflow.MapWeights(golden.weights)
    saved = save_checkpoint(tmp_path / "b", source, source.keys(), {}, max_shard_bytes=5000)
    index = json.loads((saved / "model.safetensors.index.json").read_text())
    files = sorted(p.name for p in saved.glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(a.nbytes for a in golden.weights.values())
    for name in files:
        part = load_file(saved / name)
        assert all(index["weight_map"][key] == name for key in part)
        assert sum(a.nbytes for a in part.values()) <= 5000 or len(part) == 1
    (saved / "config.json").write_text(json.dumps(golden.config))
    assert golden.error(run(rlxflow.load(saved), golden)) <= 1e-5


def test_a_place_that_is_taken_is_left_as_it_is(tmp_path: Path) -> None:
    golden = goldens.hf_case("bert", "plain")
    folder = write_golden(tmp_path / "a", golden)
    model = rlxflow.load(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(WeightsError, match="saving never replaces") as caught:
        model.save(folder)
    assert caught.value.code == "RLX-W039" and caught.value.hint
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(WeightsError):
        model.save(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert_same_bytes(folder, model.save(tmp_path / "empty"))
    assert_same_bytes(folder, model.save(tmp_path / "new" / "deep"))


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    class Failing(rlxflow.MapWeights):
        def read(self, key: str) -> Any:
            if key == "b":
                raise WeightsError("gone", code="RLX-W047")
            return super().read(key)

    source = Failing({"a": np.ones(4), "b": np.ones(4)})
    with pytest.raises(WeightsError, match="gone"):
        save_checkpoint(tmp_path / "x", source, source.keys(), {}, max_shard_bytes=40)
    with pytest.raises(RlxError) as caught:
        save_checkpoint(Path("/proc/x/y"), source, ["a"], {})
    assert caught.value.code == "RLX-W038"
    assert list(tmp_path.iterdir()) == []


def test_links_out_of_the_directory_are_not_followed(tmp_path: Path) -> None:
    golden = goldens.hf_case("bert", "plain")
    folder = write_golden(tmp_path / "a", golden)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "notes.txt").symlink_to(tmp_path / "secret.txt")
    model = rlxflow.load(folder)
    with pytest.raises(RlxError) as caught:
        model.save(tmp_path / "b")
    assert caught.value.code == "RLX-W028"
    assert not (tmp_path / "b").exists()


GGUF = {name: goldens.gguf_case(name) for name in goldens.gguf_names()}


@pytest.mark.parametrize("name", [n for n, c in GGUF.items() if set(c.golden.tags) <= {"f32", "f16", "bf16"}])
def test_a_plain_gguf_file_becomes_a_directory(name: str, tmp_path: Path) -> None:
    case = GGUF[name]
    model = rlxflow.load(case.path)
    again = rlxflow.load(model.save(tmp_path / "b"))
    (output,) = case.golden.expected
    inputs = {k: v for k, v in case.golden.inputs.items() if k != "position_ids"}
    assert np.array_equal(again(**inputs)[output], model(**inputs)[output])


def test_packed_tensors_are_refused(tmp_path: Path) -> None:
    packed = [c for c in GGUF.values() if any("q" in t.lower() for t in c.golden.tags)]
    assert packed
    with pytest.raises(UnsupportedFile) as caught:
        rlxflow.load(packed[0].path).save(tmp_path / "b")
    assert caught.value.code == "RLX-W050" and "GGUF" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_files_is_not_saved(tmp_path: Path) -> None:
    golden = goldens.hf_case("bert", "plain")
    model = rlxflow.load(write_golden(tmp_path / "a", golden))
    with pytest.raises(InputError) as caught:
        rlxflow.Model(model.name, model.built, model.config).save(tmp_path / "b")
    assert caught.value.code == "RLX-R072"
