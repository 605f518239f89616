"""What a plan says it takes, against the arrays that exist once it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens import gguf_case, hf_case
from model_files import write_golden

import rlxflow
from rlxflow.profile import load_profile
from rlxflow.runtime.compile import memory_of


@pytest.mark.parametrize("mixed", ["none", "auto", "int8"])
@pytest.mark.parametrize("name", ["llama_gqa_tied", "qwen2_q4_k_m", "bert"])
def test_weights(name: str, mixed: str, tmp_path: Path) -> None:
    profile = load_profile("exact", ["backend.name=cpu", f"precision.mixed={mixed}"])
    bert = name == "bert"
    path = write_golden(tmp_path / "m", hf_case("bert", "plain")) if bert else gguf_case(name).path
    model = rlxflow.load(path, profile)
    use = memory_of(model.built, 64)
    assert use.weights == model.executable.weight_bytes  # type: ignore[attr-defined]
    assert use.weights < use.loading <= use.weights + model.report.nbytes
    assert use.activations is not None and use.activations > 0
    longer = memory_of(model.built, 256).activations
    assert longer is not None and longer > use.activations


def test_weights_larger_than_memory_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rlxflow.weights.gguf import GgufFile

    profile = load_profile("exact", ["backend.name=cpu"])
    path = gguf_case("llama_gqa_tied").path
    needed = memory_of(rlxflow.load(path, profile).built, 1).loading
    monkeypatch.setattr(GgufFile, "read", lambda self, key: pytest.fail("read"))
    monkeypatch.setattr("rlxflow.weights.memory.available_memory", lambda: needed - 1)
    with pytest.raises(rlxflow.RlxError) as caught:
        rlxflow.load(path, profile)
    assert caught.value.code == "RLX-W036"
