"""config.json files that must be refused, each with its code and a hint; and ones that must not be.

Ids start with the kind: C1 the file, C2 model_type, C3 sizes, C4 rope settings, C5 unknown fields,
C6 custom code, C7 quantised, C8 lists, C9 configs inside the config.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import goldens
import pytest
from config_cases import ABSENT, FIELDS, FILES, config
from model_files import write_golden, write_model

import rlxflow


def refused(folder: Path) -> rlxflow.RlxError:
    with pytest.raises(rlxflow.RlxError) as caught:
        rlxflow.load(folder)
    error = caught.value
    assert "\n" not in error.message and len(error.message) < 1000
    assert error.message.isprintable() and error.hint.isprintable()
    assert str(folder.name) in error.where
    return error


@pytest.mark.parametrize("case", FILES)
def test_file(case: str, tmp_path: Path) -> None:
    content, code, hint = FILES[case]
    write_golden(tmp_path, goldens.hf_case("llama", "plain"))
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    error = refused(tmp_path)
    assert error.code == code
    assert hint in error.hint


@pytest.mark.parametrize("case", FIELDS)
def test_field(case: str, tmp_path: Path) -> None:
    content, code, hint = FIELDS[case]
    write_model(tmp_path, content, goldens.hf_case("llama", "plain").weights)
    error = refused(tmp_path)
    assert (error.code, type(error)) == (code, rlxflow.errors.ConfigError), error
    assert hint in error.hint, error
    if code in ("RLX-C003", "RLX-C004"):
        assert error.message


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.mkdir(), id="C1-directory"),
        pytest.param(lambda path: path.symlink_to(path), id="C1-link-to-itself"),
        pytest.param(lambda path: path.symlink_to(path.parent / "none"), id="C1-dangling-link"),
    ],
)
def test_config_that_is_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    write_golden(tmp_path, goldens.hf_case("llama", "plain"))
    (tmp_path / "config.json").unlink()
    make(tmp_path / "config.json")
    error = refused(tmp_path)
    assert error.code == "RLX-C024" and "permissions" in error.hint


def test_every_fault_is_named_at_once() -> None:
    raw = config("llama", hidden_size="48", vocab_size=ABSENT, rms_norm_eps=-1.0)
    with pytest.raises(rlxflow.RlxError) as caught:
        rlxflow.find_recipe("llama").config(raw, "config.json")
    assert set(caught.value.details["fields"]) == {"hidden_size", "vocab_size", "rms_norm_eps"}
    for name in caught.value.details["fields"]:
        assert name in caught.value.message


def test_C1_damage_to_every_byte(tmp_path: Path) -> None:
    """Every prefix and every byte replaced: a model, or an `RlxError`."""
    golden = goldens.hf_case("llama", "plain")
    keep = {k: v for k, v in golden.config.items() if k not in ("architectures", "hidden_act")}
    raw = {**keep, "rope_scaling": {"type": "linear", "factor": 2.5}}
    data = json.dumps(raw, separators=(",", ":")).encode()
    folder = write_model(tmp_path, raw, golden.weights)
    variants = [data[:end] for end in range(len(data))]
    for at, byte in enumerate(data):
        variants += [
            data[:at] + bytes([b]) + data[at + 1 :] for b in {0, 255, byte ^ 1, byte ^ 0x80} - {byte}
        ]
    loaded = 0
    for variant in variants:
        (folder / "config.json").write_bytes(variant)
        try:
            rlxflow.load(folder)
            loaded += 1
        except rlxflow.RlxError as error:
            assert error.code and error.hint
    assert 0 < loaded < len(variants) / 10
