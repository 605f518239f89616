"""Two spellings of one config, and what absent fields mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import goldens
import pytest
from config_cases import ABSENT, config
from model_files import run, write_golden, write_json

import rlxflow

NEW = {"rope_type": "linear", "factor": 2.5, "rope_theta": 1000.0}
OLD = {"type": "linear", "factor": 2.5}

SAME: dict[str, dict[str, Any]] = {
    "C4-both-agree": {"rope_theta": 1000.0, "rope_parameters": NEW, "rope_scaling": OLD},
    "C4-old": {"rope_theta": 1000.0, "rope_parameters": ABSENT, "rope_scaling": OLD},
    "C4-ints-as-floats": {
        "rope_theta": 1000,
        "rope_parameters": None,
        "rope_scaling": {**OLD, "factor": 2.5},
    },
    "C4-nulls-inside": {"rope_parameters": {**NEW, "type": None, "beta_fast": None}, "rope_scaling": None},
    "C4-both-names-of-the-type": {"rope_parameters": {**NEW, "type": "linear"}},
    "C4-empty-old-spelling": {"rope_scaling": {}},
    "C5-private-and-idle-fields": {"_name_or_path": "/x", "use_cache": False, "torch_dtype": "float16"},
    "C6-custom-code-is-ignored": {"auto_map": {"AutoModelForCausalLM": "evil.Model"}},
    "C7-null": {"quantization_config": None},
}


@pytest.mark.parametrize("case", SAME)
def test_same_model(case: str, tmp_path: Path) -> None:
    """Spellings and fields that change nothing."""
    golden = goldens.hf_case("llama", "linear_new")
    folder = write_golden(tmp_path, golden)
    changed = {k: v for k, v in {**golden.config, **SAME[case]}.items() if v is not ABSENT}
    write_json(folder / "config.json", changed)
    model = rlxflow.load(folder)
    assert golden.error(run(model, golden)) <= 1e-5
    assert any("auto_map" in note for note in model.report.notes) == ("auto_map" in SAME[case])


def test_C4_no_base_means_what_hugging_face_says(tmp_path: Path) -> None:
    """Without any rope setting the base is 10000; a recipe without a default refuses."""
    assert "rope_theta" not in config("llama") and "rope_parameters" not in config("llama")
    assert rlxflow.find_recipe("llama").config(config("llama"), "").rope.theta == 10000.0
    with pytest.raises(rlxflow.RlxError) as caught:
        rlxflow.DecoderConfig.parse(config("llama"))
    assert caught.value.code == "RLX-C007" and "never guessed" in caught.value.hint


def test_window_defaults_are_those_of_hugging_face() -> None:
    parse = rlxflow.find_recipe("qwen2").config
    windowed = parse(config("qwen2", use_sliding_window=True, max_window_layers=1), "")
    assert [windowed.window(i) for i in range(2)] == [0, 4096]
    none = parse(config("qwen2", use_sliding_window=True, sliding_window=None, max_window_layers=0), "")
    assert [none.window(i) for i in range(2)] == [0, 0]


def test_C4_partial_rotary_where_a_recipe_allows_it() -> None:
    class Partial(rlxflow.DecoderConfig):
        partial_rotary: ClassVar[bool] = True

    raw = config("llama", partial_rotary_factor=0.5, rope_theta=1e4)
    assert Partial.parse(raw).rope.rotary_dim == 6
