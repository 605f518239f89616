"""What `rlxflow compare` and `dump-activations` say, and what they refuse."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
from faults import FAULTS, original, plant
from model_files import write_model
from recorded_models import file_of

from rlxflow import MapWeights, ModelFlow
from rlxflow.cli.main import main
from rlxflow.errors import InputError, RlxError
from rlxflow.inspect.examine import examine
from rlxflow.porting.activations import Activations, read_activations, write_activations
from rlxflow.porting.compare import Comparison, compare
from rlxflow.porting.compare_text import comparison_text
from rlxflow.porting.dump import dump_activations


def built(folder: Path) -> Any:
    made = examine(folder).built
    assert made is not None
    return made


def sound(folder: Path, model: str = "llama") -> tuple[Any, Activations]:
    return built(write_model(folder, *original(model))), read_activations(file_of(model))


def test_the_text_names_stage_operands_and_cause(tmp_path: Path) -> None:
    fault = next(f for f in FAULTS if f.name == "rope_theta")
    found = compare(built(plant(fault, tmp_path)), read_activations(file_of(fault.model)))
    text = comparison_text(found)
    for part in (
        "first difference: model.layers.0.self_attn.o_proj (its input)",
        "stage     layers.0.llama_decoder.attention",
        "cached_attention",
        "from      model.layers.0.self_attn.q_proj",
        "positions from 1 on differ, those before do not",
        "cause     rope theta: the reference has 10000 (ours: 500000)",
        "1 later activations are wrong by themselves",
    ):
        assert part in text
    assert comparison_text(found, every=True).count("\n") > len(found.rows)


def test_agreement_exits_0_and_a_difference_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = ["--reference", str(file_of("llama"))]
    folder = write_model(tmp_path / "sound", *original("llama"))
    assert main(["compare", str(folder), *reference, "--all"]) == 0
    assert "all agree" in capsys.readouterr().out
    assert main(["compare", str(folder), *reference, "--tolerance", "0"]) == 2
    spoilt = plant(FAULTS[0], tmp_path / "spoilt")
    assert main(["compare", str(spoilt), *reference]) == 1
    assert "rope pairing" in capsys.readouterr().out
    assert main(["compare", str(folder), "--reference", str(tmp_path / "absent.safetensors")]) == 3


def test_parts_that_are_right_but_an_end_that_drifts(tmp_path: Path) -> None:
    """A reference in half precision: no part is far off, their sum is."""
    model, reference = sound(tmp_path)
    found = compare(model, reference, tolerance=1e-7)
    assert found.difference is not None and not found.difference.explained
    rows = tuple(replace(r, error=1.0) for r in found.rows[-1:])
    drifting = Comparison(rows, 2e-5, None, rows[0])
    assert not drifting.agrees and "every part is right by itself" in comparison_text(drifting)


def test_a_difference_that_nothing_explains(tmp_path: Path) -> None:
    config, weights = original("llama")
    key = "model.layers.1.mlp.down_proj.weight"
    weights[key] = weights[key][::-1] * np.float32(1.7) + np.float32(0.3)
    found = compare(built(write_model(tmp_path, config, weights)), read_activations(file_of("llama")))
    assert found.difference is not None and not found.difference.explained
    assert found.difference.module == "model.layers.1.mlp.down_proj"
    assert "compare the stage with the original code" in comparison_text(found)


def test_a_prefix_on_either_side_is_found(tmp_path: Path) -> None:
    model, reference = sound(tmp_path, "bert")
    named = {f"bert.{path}": sides for path, sides in reference.modules.items()}
    assert len(compare(model, replace(reference, modules=named)).rows) == len(compare(model, reference).rows)


def test_of_a_module_that_runs_again_the_first_run_is_compared() -> None:
    """As ALBERT's one layer does: what was recorded of it is no later run's."""
    random = np.random.default_rng(0)
    w, b = (random.standard_normal(shape).astype(np.float32) for shape in ((8, 8), (8,)))
    x = random.standard_normal((2, 3, 8)).astype(np.float32)
    again = ModelFlow("again").input("x", ("B", "S", 8), "f32")
    for _ in range(3):
        again = again.linear("layer.weight", 8, bias_key="layer.bias")
    model = again.output("y").build(MapWeights({"layer.weight": w, "layer.bias": b}))
    first = x @ w.T + b
    last = (first @ w.T + b) @ w.T + b
    for wrong in (0, 1):
        found = compare(model, Activations({"x": x}, {"y": last + wrong}, {"layer": {"in": x, "out": first}}))
        assert [row.module for row in found.rows] == ["layer", "output y"]
        assert found.agrees is not bool(wrong)


def test_the_compiled_backend_is_compared_too(tmp_path: Path) -> None:
    model, reference = sound(tmp_path, "bert")
    from rlxflow.profile import with_overrides

    found = compare(model, reference, with_overrides(model.profile, ["backend.name=cpu"]))
    assert found.agrees and 0 < max(r.error for r in found.rows) < 2e-5


def test_a_recorded_file_comes_back(tmp_path: Path) -> None:
    _, reference = sound(tmp_path)
    write_activations(tmp_path / "again.safetensors", reference)
    again = read_activations(tmp_path / "again.safetensors")
    assert again.inputs.keys() == reference.inputs.keys() and again.outputs.keys() == {"logits"}
    for path, sides in reference.modules.items():
        for side, array in sides.items():
            assert np.array_equal(again.modules[path][side], array)


@pytest.mark.parametrize(
    "keys", [("model.norm.weight",), ("inputs/input_ids",), ("inputs/", "modules/a/in"), ("modules/a/in",)]
)
def test_files_of_something_else_are_refused(keys: tuple[str, ...], tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({key: np.zeros((1, 2), np.float32) for key in keys}, tmp_path / "x.safetensors")
    with pytest.raises(InputError) as caught:
        read_activations(tmp_path / "x.safetensors")
    assert caught.value.code == "RLX-R090" and "dump-activations" in caught.value.hint


def test_references_that_do_not_fit(tmp_path: Path) -> None:
    model, reference = sound(tmp_path)
    mask = reference.inputs["attention_mask"]
    left = {**reference.inputs, "attention_mask": mask[:, ::-1].copy()}
    wrong = {
        "modules": replace(reference, modules={"other": {"out": np.zeros((2, 9, 3), np.float32)}}),
        "ids": replace(reference, inputs={"attention_mask": mask}),
        "padding": replace(reference, inputs=left),
    }
    for name, spoilt in wrong.items():
        with pytest.raises(RlxError) as caught:
            compare(model, spoilt)
        assert caught.value.code == "RLX-R092", name


def test_recording_without_torch_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RlxError) as caught:
        dump_activations(tmp_path)
    assert caught.value.code == "RLX-B090" and "pip install torch transformers" in caught.value.hint
    assert main(["dump-activations", str(tmp_path), "-o", str(tmp_path / "x.safetensors")]) == 1
    assert "RLX-B090" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()


def test_images_are_compared_from_their_pixels(tmp_path: Path) -> None:
    golden = goldens.vision_case("vit", "plain")
    examined = examine(write_model(tmp_path, golden.config, golden.weights))
    last = golden.expected["last_hidden_state"]
    pixels = {"pixel_values": golden.inputs["pixel_values"]}
    reference = Activations(pixels, {}, {"layernorm": {"out": last}})  # the last module's output
    assert examined.built is not None
    found = compare(examined.built, reference, config=examined.config)
    assert found.agrees and len(found.rows) == 1 and found.missing
    wrong = replace(reference, modules={"layernorm": {"out": last * np.float32(1.01)}})
    assert compare(examined.built, wrong, config=examined.config).difference is not None
    assert "modules are not in the reference" in comparison_text(found)
