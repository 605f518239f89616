"""Decoders of every family, compiled: whole prompts, and a prompt in pieces, against Hugging Face."""

from __future__ import annotations

from pathlib import Path

import goldens
import numpy as np
import pytest
from model_files import model_inputs, write_golden

import rlxflow
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.profile.load import load_profile

TOLERANCE = 2e-5
CPU = load_profile("exact", ["backend.name=cpu"])
# with what each family has beside the plain one: windows, caps, ropes, biases, parts of heads
NAMES = [
    *((family, "plain") for family in goldens.hf_decoders() if family not in ("llama", "qwen2", "qwen3")),
    *(("cohere2", "layer_types"), ("gemma2", "usual_caps"), ("gemma3_text", "yarn_and_layer_types")),
    *(("granite", "all_biases"), ("phi3", "su_partial"), ("smollm3", "window_by_type")),
]


@pytest.mark.parametrize(("family", "name"), NAMES)
def test_in_one_call_and_in_pieces(family: str, name: str, tmp_path: Path) -> None:
    golden = goldens.hf_case(family, name)
    model = rlxflow.load(write_golden(tmp_path, golden), profile=CPU)
    assert isinstance(model.executable, CpuExecutable)
    assert golden.error(model(**model_inputs(golden))["logits"]) <= TOLERANCE

    row = golden.valid.sum(1).argmax()
    valid = golden.valid[row]
    ids, expected = golden.inputs["input_ids"][row, valid], golden.expected["logits"][row, valid]
    state, parts = model.executable.new_state(1, len(ids)), []
    for start, stop in ((0, 7), (7, 8), (8, len(ids))):
        sizes = {"past_len": np.array([start], np.int32), "new_len": np.array([stop - start], np.int32)}
        inputs = {"input_ids": ids[None, start:stop], **sizes}
        parts.append(model.executable(inputs, state, ("logits",))["logits"][0])
    assert goldens.error(np.concatenate(parts), expected) <= TOLERANCE
