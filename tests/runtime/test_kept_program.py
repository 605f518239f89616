"""Programs on disk: a start by one gives what a whole start gives, and what is not right is made again."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
import tokenizers
from model_files import model_inputs, write_golden, write_json, write_model

import rlxflow
from rlxflow.backends.cpu.object_cache import (
    cached_files,
    clear_cache,
    files_digest,
    keep_program,
    kept_program,
)
from rlxflow.errors import RlxError, WeightsError
from rlxflow.runtime import kept_program as subject, tokenizer as tokenizer_module
from rlxflow.runtime.model_files import model_files
from rlxflow.weights.safetensors import SafetensorsFile

ROOT = Path(rlxflow.__file__).parent.parent
GOLDEN = goldens.hf_case("bert", "plain")
PROFILE = "encoder"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RLXFLOW_CACHE", str(folder))
    monkeypatch.setenv("RLXFLOW_BACKEND", "cpu")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_golden(tmp_path / "tiny", GOLDEN)


def load(path: Path, profile: Any = PROFILE) -> tuple[rlxflow.Model, bool]:
    """The model, and whether its program was found."""
    loaded = rlxflow.load(path, profile)
    return loaded, "built" not in loaded.__dict__


def outputs(model: rlxflow.Model, golden: goldens.Golden = GOLDEN) -> dict[str, Any]:
    return model(**model_inputs(golden))


def programs(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.program"))


@pytest.mark.parametrize("model_type", ["bert", "mpnet", "modernbert", "gemma2", "qwen3"])
def test_it_runs_as_the_one_that_was_made(model_type: str, tmp_path: Path) -> None:
    golden = goldens.hf_case(model_type, goldens.hf_names(model_type)[0])
    path = write_golden(tmp_path / model_type, golden)
    (made, first), (found, second) = load(path), load(path)
    assert (first, second) == (False, True)
    expected, got = outputs(made, golden), outputs(found, golden)
    assert expected.keys() == got.keys()
    assert all(np.array_equal(expected[name], got[name], equal_nan=True) for name in expected)
    assert found.is_decoder == made.is_decoder and found.max_positions == made.max_positions
    assert "built" not in found.__dict__


@pytest.mark.parametrize("name", ["llama_gqa_tied", "llama3_rope", "qwen2_q4_k_m", "bert"])
def test_gguf_files_need_no_recipe(name: str, cache: Path) -> None:
    """Rows may be permuted, and factors of rotations stored beside the weights."""
    path = goldens.gguf_case(name).path
    (made, first), (found, second) = load(path, "decode"), load(path, "decode")
    assert (first, second) == (False, True)
    ids = np.array([[1, 5, 9, 3]])
    expected, got = made(input_ids=ids), found(input_ids=ids)
    assert all(np.array_equal(expected[name], got[name]) for name in expected)
    if name == "bert":
        assert np.array_equal(made.embed(["the cat"]), found.embed(["the cat"]))
    else:
        told = [m.generate("the cat", max_new_tokens=8).text for m in (made, found)]
        assert told[0] == told[1]
    assert "built" not in found.__dict__
    assert found.graph.digest == made.graph.digest and str(found.report) == str(made.report)
    (program,) = programs(cache)
    text, _, code = (kept_program(program.stem) or b"").partition(b"\n")
    for known in ({}, None, {"pooling": None, "source": {"q": 1, "kv": 1}}):
        keep_program("other", "", json.dumps({**json.loads(text), "known": known}).encode() + b"\n" + code)
        assert subject.find_program("other", model_files(path)) is None


def test_the_rest_of_the_model_is_made_when_asked_for(model: Path) -> None:
    (made, _), (found, hit) = load(model), load(model)
    assert hit and repr(found) == repr(made)
    assert found.graph.digest == made.graph.digest and found.config == made.config
    assert found.flow == made.flow and str(found.report) == str(made.report)
    assert found.profile == made.profile and str(found.explain()) == str(made.explain())
    with pytest.raises(AttributeError, match="nonsense"):
        found.nonsense  # type: ignore[attr-defined]


def test_errors_of_calls_are_the_same(model: Path) -> None:
    (made, _), (found, hit) = load(model), load(model)
    assert hit
    wrong: list[dict[str, Any]] = [
        {},
        {"input_ids": [[1, 2]], "nonsense": 1},
        {"input_ids": [[1, 10**6]]},
        {"input_ids": [[1, 2]], "pixel_values": np.zeros((1, 3, 2, 2))},
        {"input_ids": [[1, 2]], "outputs": ["nothing"]},
    ]
    for arrays in wrong:
        errors = []
        for each in (made, found):
            with pytest.raises(RlxError) as caught:
                each(**arrays)
            errors.append(str(caught.value))
        assert errors[0] == errors[1]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "renamed", "link", "writable", "other data"])
def test_a_damaged_program_is_made_again(damage: str, model: Path, cache: Path) -> None:
    expected = outputs(load(model)[0])
    (path,) = programs(cache)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "flip":
        path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "renamed":
        load(model, "exact")
        (other,) = (p for p in programs(cache) if p != path)
        other.replace(path)
    elif damage == "link":
        path.rename(cache / "elsewhere")
        path.symlink_to(cache / "elsewhere")
    elif damage == "writable":
        path.chmod(0o666)
    else:
        keep_program(path.stem, "whole, and not ours", b'{"plan": 1}\ncode')
    again, found = load(model)
    assert not found and load(model)[1]
    assert np.array_equal(outputs(again)["last_hidden_state"], expected["last_hidden_state"])


def test_no_other_data_is_taken_for_a_program(model: Path, cache: Path) -> None:
    """Whatever part of it is missing or of another kind."""
    load(model)
    (path,) = programs(cache)
    text, _, code = (kept_program(path.stem) or b"").partition(b"\n")
    whole = json.loads(text)

    def taken(data: object) -> bool:
        keep_program("other", "", json.dumps(data).encode() + b"\n" + code)
        return subject.find_program("other", model_files(model)) is not None

    assert taken(whole)
    for name in whole:
        assert not taken({k: v for k, v in whole.items() if k != name})
    for name in whole["plan"]:
        plan = {k: v for k, v in whole["plan"].items() if k != name}
        assert not taken({**whole, "plan": plan})
        assert not taken({**whole, "plan": {**plan, name: 5}})
    assert not taken({**whole, "known": 5}) and not taken({**whole, "known": ["digest"]})
    for data in ([], None, {}, {**whole, "more": 1}, {**whole, "inputs": [["x", ["B"], "f33", None]]}):
        assert not taken(data)
    keep_program("other", "", b"\xff\xfe\n" + code)
    assert subject.find_program("other", model_files(model)) is None


def test_what_programs_follow_from(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def name(path: Path = model, profile: Any = PROFILE) -> str | None:
        return subject.program_name(model_files(path), profile)

    first = name()
    assert first is not None and name() == first
    names = [first, name(profile=None), name(profile="exact"), name(profile=rlxflow.CompileProfile())]
    own = tmp_path / "own.rlx.toml"
    for threads in (3, 4):
        own.write_text(f'version = 1\nextends = "exact"\n[backend.cpu]\nthreads = {threads}\n')
        names.append(name(profile=str(own)))
    weights = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in GOLDEN.weights.items()}
    names.append(name(write_model(tmp_path / "half", GOLDEN.config, weights)))
    write_json(model / "config.json", {**GOLDEN.config, "layer_norm_eps": 1e-3})
    names.append(name())
    write_json(model / "config.json", GOLDEN.config)
    for variable, value in (("RLX_FUSE_ATTN_THRESHOLD", "7"), ("RLXFLOW_BACKEND", "auto")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(subject, "_installed", lambda: "another version")
        names.append(name())
    assert None not in names and len(set(names)) == len(names)
    assert name() == first


def test_a_file_of_rlxflow_that_changes_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "rlxflow"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(rlxflow, "__file__", str(package / "__init__.py"))
    monkeypatch.setattr(subject, "files_digest", files_digest.__wrapped__)
    found = [subject._installed(), subject._installed()]
    for text in ("1", "23", "32"):
        (package / "inner" / "a.py").write_text(text)
        found.append(subject._installed())
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "new.py").write_text("")
    found.append(subject._installed())
    assert found[0] == found[1] and len(set(found)) == len(found) - 1


def test_tokens_beyond_the_table_are_told_of(model: Path) -> None:
    load(model)
    words = tokenizers.models.WordLevel({f"w{i}": i for i in range(10_000)}, unk_token="w0")
    tokenizers.Tokenizer(words).save(str(model / "tokenizer.json"))
    with pytest.raises(RlxError) as caught:
        load(model)
    assert caught.value.code == "RLX-T013"


def test_a_tokenizer_is_looked_through_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = tokenizer_module.parse_json

    def parse(data: bytes, where: str, **rest: Any) -> Any:
        seen.append(Path(where).name)
        return real(data, where, **rest)

    monkeypatch.setattr(tokenizer_module, "parse_json", parse)
    words = {f"w{i}": i for i in range(9)}
    for count, expected in (
        (9, 1),
        (9, 0),
        (8, 1),
        (8, 1),
    ):  # another file is another, if programs are the same
        seen.clear()
        chosen = tokenizers.models.WordLevel(dict(list(words.items())[:count]), unk_token="w0")
        tokenizers.Tokenizer(chosen).save(str(model / "tokenizer.json"))
        loaded, _ = load(model)
        assert loaded.require_tokenizer().vocab_size == count and len(seen) == expected
    (model / "tokenizer.json").write_text("{")
    with pytest.raises(RlxError) as caught:
        load(model)
    assert caught.value.code == "RLX-T002"


def test_weights_that_are_gone_are_told_of(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(model)

    def fail(self: SafetensorsFile, key: str) -> None:
        raise WeightsError("gone", code="RLX-W001", where=key, hint="")

    monkeypatch.setattr(SafetensorsFile, "read", fail)
    with pytest.raises(WeightsError):
        load(model)


def test_what_is_not_kept(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = rlxflow.CompileProfile(passes=rlxflow.PassProfile(verbose=True))
    for _ in range(2):
        assert not load(model, told)[1]
    rlxflow.load(model, PROFILE, recipe="bert")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", lambda group: [group] * (group == "rlxflow.rules"))
        load(model)
    monkeypatch.setenv("RLXFLOW_BACKEND", "reference")
    load(model)
    assert not programs(cache)
    monkeypatch.setenv("RLXFLOW_BACKEND", "cpu")
    monkeypatch.setenv("RLXFLOW_CACHE", "")
    assert not load(model)[1] and not load(model)[1]


def test_the_command_line_knows_them(model: Path) -> None:
    load(model)
    abouts = [f.about for f in cached_files() if f.name.endswith(".program")]
    assert len(abouts) == 1 and abouts[0].startswith("bert, whole program, ")
    clear_cache()
    assert not load(model)[1]


def test_a_start_imports_no_more_than_it_needs(model: Path) -> None:
    load(model)
    program = (
        "import sys, rlxflow\n"
        f"model = rlxflow.load({str(model)!r}, {PROFILE!r})\n"
        "model(input_ids=[[1, 2, 3]])\n"
        "print(*(n for n in ('pydantic', 'rlxflow.fusion', 'rlxflow.stages', 'rlxflow.recipes',\n"
        "    'rlxflow.backends.cpu.drafter', 'rlxflow.backends.cpu.kernels.gemm') if n in sys.modules))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert ended.stdout == "\n", ended.stderr or ended.stdout
