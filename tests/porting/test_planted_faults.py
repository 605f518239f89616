"""`rlxflow compare` on spoilt models: it names the stage and the cause, from the files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faults import FAULTS, Fault, original, plant
from model_files import write_model
from recorded_models import CONFIGS, file_of

from rlxflow.cli.main import main

SOUND = sorted(set(CONFIGS) - {"bert_causal"})  # an original that our BERT does not have


def compared(folder: Path, model: str, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, Any]:
    code = main(["compare", str(folder), "--reference", str(file_of(model)), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("model", SOUND)
def test_a_sound_model_agrees(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = compared(write_model(tmp_path, *original(model)), model, capsys)
    assert (code, found["agrees"], found["difference"]) == (0, True, None)
    assert len(found["rows"]) >= 28 and max(r["own_error"] for r in found["rows"]) < 2e-6


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_the_stage_and_the_cause_are_named(
    fault: Fault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = compared(plant(fault, tmp_path), fault.model, capsys)
    assert code == 1
    difference = found["difference"]
    assert difference["module"] == fault.module
    assert difference["explained"] and difference["causes"][0]["kind"] == fault.cause, difference["causes"]
