"""`rlxflow.load`: what it finds, what it refuses, and that it reads nothing before all checks have passed."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
from model_files import run, write_golden, write_json, write_model
from tokenizers import Tokenizer, models, pre_tokenizers

import rlxflow
from rlxflow.errors import RlxError
from rlxflow.profile import load_profile
from rlxflow.runtime.compile import memory_of
from rlxflow.weights.safetensors import SafetensorsFile

GOLDEN = goldens.hf_case("llama", "gqa_tied")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_golden(tmp_path / "tiny", GOLDEN)


def refused(path: Path, code: str, hint: str, **arguments: object) -> RlxError:
    with pytest.raises(RlxError) as caught:
        rlxflow.load(path, **arguments)  # type: ignore[arg-type]
    error = caught.value
    assert error.code == code and hint in error.hint, error
    return error


def word_tokenizer(path: Path, size: int) -> None:
    """A tokenizer.json of `size` words w0, w1, …"""
    model = models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


def test_a_model_and_what_it_says_of_itself(folder: Path) -> None:
    model = rlxflow.load(folder)
    assert repr(model) == f"<Model tiny: llama, {model.report.params:,} parameters>"
    assert model.is_decoder and model.max_positions == 64 and model.profile.source == "exact"
    assert model.report.ok and model.embedding is None and model.tokenizer is None


def test_a_model_is_not_pickled_and_its_own_copy(folder: Path) -> None:
    model = rlxflow.load(folder)
    with pytest.raises(RlxError, match=r"rlxflow\.load\(path\) in each process") as told:
        model.__reduce_ex__(4)  # as pickle does
    assert told.value.code == "RLX-R073"
    assert copy.copy(model) is model and copy.deepcopy([model])[0] is model


def test_profile_and_recipe_by_name_and_as_objects(folder: Path, tmp_path: Path) -> None:
    expected = run(rlxflow.load(folder), GOLDEN)
    profile = tmp_path / "mine.rlx.toml"
    profile.write_text('extends = "exact"\n[fusion]\npolicy = "fusable"\n')
    for given in ("exact", str(profile), rlxflow.load(folder).profile):
        assert np.array_equal(run(rlxflow.load(folder, given), GOLDEN), expected)
    config = {key: value for key, value in GOLDEN.config.items() if key != "model_type"}
    write_json(folder / "config.json", config)
    for recipe in ("llama", rlxflow.find_recipe("llama")):
        assert np.array_equal(run(rlxflow.load(folder, recipe=recipe), GOLDEN), expected)
    refused(folder, "RLX-C023", "recipe=")
    refused(folder, "RLX-C001", "'llama'", recipe="lama")
    refused(folder, "RLX-C001", "rlxflow.Recipe", recipe=5)
    refused(folder, "RLX-P008", "'exact'", profile="exacto", recipe="llama")


def test_path_forms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert rlxflow.load(".").name == "llama"
    monkeypatch.chdir(folder.parent)
    assert rlxflow.load("tiny/").name == rlxflow.load(folder).name == "tiny"


def test_what_is_no_model(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "RLX-C022", "holds config.json")
    two = tmp_path / "two"
    two.mkdir()
    for name in ("a.gguf", "b.gguf"):
        (two / name).write_bytes(goldens.gguf_case("bert").path.read_bytes())
    refused(two, "RLX-C022", "one of the .gguf files")
    refused(folder / "model.safetensors", "RLX-W005", "directory with config.json")
    refused(folder / "config.json", "RLX-W005", "model directory")
    (tmp_path / "nothing").write_bytes(b"")
    refused(tmp_path / "nothing", "RLX-W005", "model directory")
    (tmp_path / "short.gguf").write_bytes(b"GG")
    with pytest.raises(RlxError):
        rlxflow.load(tmp_path / "short.gguf")
    (folder / "model.safetensors").unlink()
    refused(folder, "RLX-W029", "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    refused(folder, "RLX-W030", "safe_serialization")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "RLX-W001", "path")


def test_a_gguf_file_of_any_name(tmp_path: Path) -> None:
    case = goldens.gguf_case("qwen2_tied")
    path = tmp_path / "model.bin"
    path.write_bytes(case.path.read_bytes())
    assert case.golden.error(run(rlxflow.load(path), case.golden)) <= 1e-5


# -- weights ---------------------------------------------------------------------------------------------


def test_gpt2_names_are_explained(folder: Path) -> None:
    names = {
        f"transformer.h.{i}.{name}.weight": np.ones((48, 48), np.float32)
        for i in range(2)
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    write_model(folder, GOLDEN.config, names)
    error = refused(folder, "RLX-W033", "")
    assert error.hint and "transformer.h.N" in error.message and "missing" in error.message


def test_weights_of_another_size(folder: Path) -> None:
    weights = GOLDEN.weights
    weights["model.layers.1.mlp.up_proj.weight"] = np.ones((48, 80), np.float32)
    write_model(folder, GOLDEN.config, weights)
    error = refused(folder, "RLX-W034", "")
    assert "up_proj" in error.message and error.hint


def test_more_layers_than_the_file_has(folder: Path) -> None:
    write_json(folder / "config.json", {**GOLDEN.config, "num_hidden_layers": 300})
    error = refused(folder, "RLX-W033", "")
    assert error.hint and len(error.message) < 4000


def test_R9_weights_larger_than_memory_are_refused_before_they_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = memory_of(rlxflow.load(folder).built, 1).loading
    assert needed >= 4 * sum(array.size for array in GOLDEN.weights.values())
    read: list[str] = []
    monkeypatch.setattr(SafetensorsFile, "read", lambda self, key: read.append(key))
    monkeypatch.setattr("rlxflow.weights.memory.available_memory", lambda: needed - 1)
    error = refused(folder, "RLX-W036", "smaller")
    assert not read and error.details["available_bytes"] == needed - 1


def test_R9_half_precision_counts_as_what_it_widens_to(tmp_path: Path) -> None:
    halves = {key: value.astype(np.float16) for key, value in GOLDEN.weights.items()}
    built = rlxflow.load(write_model(tmp_path, GOLDEN.config, halves)).built
    total = sum(value.size for value in halves.values())
    use = memory_of(built, 1)
    assert 4 * total == use.weights <= use.loading < 4.5 * total


def test_R9_running_out_of_memory_while_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("rlxflow.backends.reference.backend.ReferenceBackend.compile", fail)
    refused(folder, "RLX-W036", "smaller")


def test_weights_that_change_while_they_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers first, data then: in between, another program writes the file again."""

    def touch(_: int) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)

    monkeypatch.setattr("rlxflow.backends.reference.backend.check_memory", touch)
    refused(folder, "RLX-W047", "load it again")


# -- tokenizers ------------------------------------------------------------------------------------------


def test_without_a_tokenizer_only_texts_are_refused(folder: Path) -> None:
    model = rlxflow.load(folder)
    assert GOLDEN.error(run(model, GOLDEN)) <= 1e-5
    with pytest.raises(RlxError) as caught:
        model.generate("w1 w2")
    assert caught.value.code == "RLX-T040" and "tokenizer.json" in caught.value.hint


def test_K1_ids_beyond_the_embedding_rows(folder: Path) -> None:
    word_tokenizer(folder / "tokenizer.json", 113)
    assert rlxflow.load(folder).require_tokenizer().encode("w5 w112") == [5, 112]
    word_tokenizer(folder / "tokenizer.json", 114)
    error = refused(folder, "RLX-T013", "belongs to another model")
    assert "113 embedding rows" in error.message


def test_K1_a_damaged_tokenizer(folder: Path) -> None:
    word_tokenizer(folder / "tokenizer.json", 10)
    data = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(data[: len(data) // 2])
    refused(folder, "RLX-T002", "")


@pytest.mark.parametrize(
    ("case", "instead"), [(("bert", "plain"), "last_hidden_state"), (("llama", "gqa_tied"), ".generate(")]
)
def test_a_model_without_pooling_settings_does_not_embed(
    case: tuple[str, str], instead: str, tmp_path: Path
) -> None:
    model = rlxflow.load(write_golden(tmp_path, goldens.hf_case(*case)))
    with pytest.raises(RlxError) as caught:
        model.embed("text")
    assert caught.value.code == "RLX-R021"
    assert "modules.json" in caught.value.hint and instead in caught.value.hint


def test_prompts_lower_case_and_length(tmp_path: Path) -> None:
    """Each setting against the ids it must lead to."""
    golden = goldens.hf_case("bert", "plain")
    folder = write_golden(tmp_path, golden)
    module = "sentence_transformers.models."
    write_json(
        folder / "modules.json",
        [{"path": "", "type": module + "Transformer"}, {"path": "1_Pooling", "type": module + "Pooling"}],
    )
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 4, "do_lower_case": True})
    texts = {"prompts": {"query": "W7 ", "none": ""}, "default_prompt_name": "query"}
    write_json(folder / "config_sentence_transformers.json", texts)
    word_tokenizer(folder / "tokenizer.json", 101)
    model = rlxflow.load(folder)

    def of_ids(*ids: int) -> np.ndarray:
        return model(input_ids=[ids])["embedding"]

    assert np.array_equal(model.embed("W5 w6"), of_ids(7, 5, 6))
    assert np.array_equal(model.embed("w5 w6", prompt_name="none"), of_ids(5, 6))
    with pytest.warns(rlxflow.TruncationWarning):
        assert np.array_equal(model.embed("w1 w2 w3 w4 w5", prompt_name="none"), of_ids(1, 2, 3, 4))
    with pytest.raises(RlxError) as caught:
        model.embed("w1", prompt_name="qery")
    assert caught.value.code == "RLX-R023" and "'query'" in caught.value.hint


def test_a_bar_counts_every_stored_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    totals: list[int] = []

    @contextmanager
    def counting(total: int, what: str, show: bool | None = None, unit: str = "it") -> Iterator[Any]:
        totals.append(total)
        yield seen.append

    monkeypatch.setattr("rlxflow.runtime.load.bar", counting)
    model = rlxflow.load(folder)
    assert totals == [model.report.nbytes] == [sum(seen)]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_report_says_in_which_types_weights_are_kept(folder: Path, backend: str) -> None:
    """Once the program is compiled; `exact` keeps f32, int8 products their weights as int8."""
    profile = load_profile("exact", [f"backend.name={backend}", "precision.mixed=int8"])
    model = rlxflow.load(folder, profile)
    assert not model.built.report.cast
    kept = {(old, new) for old, new, _ in model.report.cast}
    assert model.executable is not None
    kept |= {(old, new) for old, new, _ in model.report.cast}
    assert kept == ({("f32", "int8")} if backend == "cpu" else set())
