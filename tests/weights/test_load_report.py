"""The report of a plan, as text and as data."""

from __future__ import annotations

import json

import pytest
from plan_samples import EMBED, HEAD, Headers, but, decoder, stored, text_of

from rlxflow.dtypes import bf16
from rlxflow.errors import MissingTensor
from rlxflow.weights.plan import WeightSpec, plan_weights
from rlxflow.weights.report import LoadReport

# -- the report


def test_the_text_of_a_failure() -> None:
    specs = decoder(28)
    with pytest.raises(MissingTensor) as caught:
        plan_weights(specs, stored(specs, lambda k: f"language_model.{k}"))
    assert str(caught.value) == (
        "RLX-W033  86 of 87 tensors missing\n"
        "  missing     model.{embed_tokens,norm}.weight  (2)\n"
        "              model.layers.[0-27].{self_attn,mlp,input_layernorm}.…  (84)\n"
        "  unexpected  language_model.{model,lm_head}.…  (3)\n"
        "              language_model.model.layers.[0-27].{self_attn,mlp,input_layernorm}.…  (84)\n"
        '  likely      every missing key exists with "language_model." in front\n'
        "  at   model.safetensors\n"
        '  try  name it: prefixes=("", "language_model."), or choose the recipe of the whole model'
    )


def test_the_text_of_a_success() -> None:
    specs = decoder()
    source = Headers({**stored(specs, but(HEAD)).shapes, "model.layers.3.rotary.inv_freq": (4,)}, bf16)
    report = plan_weights(specs, source, expected_unused=("*.inv_freq",)).report
    assert str(report.with_cast({("bf16", "f32"): 14, ("f32", "f32"): 3})) == (
        "weights     15 of 15 tensors, 1.06 k parameters, 2.13 kB   model.safetensors\n"
        f"tied        {HEAD} <- {EMBED}  (absent from the files)\n"
        "cast        14 tensors bf16 -> f32\n"
        "unused      model.layers.3.rotary.inv_freq  (expected)"
    )


def test_long_findings_stay_within_a_screen() -> None:
    specs = [WeightSpec(f"part{i}.{i}.odd{i}", (i + 1,)) for i in range(300)]
    source = Headers({f"other{i}.{i}.key{i}": (i,) for i in range(300)})
    with pytest.raises(MissingTensor) as caught:
        plan_weights(specs, source)
    assert "… and 295 more groups" in text_of(caught.value)
    assert len(caught.value.details["report"]["missing"]) == 300


def test_names_cannot_spoil_a_terminal() -> None:
    with pytest.raises(MissingTensor) as caught:
        plan_weights([WeightSpec("a", (1,)), WeightSpec("b", (1,))], Headers({"\x1b[2J\n": (1,)}))
    assert "\x1b" not in str(caught.value) and "\\x1b[2J\\n" in str(caught.value)


def test_as_dict_holds_everything() -> None:
    specs = decoder()
    report = plan_weights(specs, stored(specs)).report.with_cast({("f32", "bf16"): 2})
    data = json.loads(json.dumps(report.as_dict()))
    assert set(data) == set(LoadReport.__dataclass_fields__)
    assert data["tied"] == [{"key": HEAD, "to": EMBED, "found": "both"}]
    assert data["cast"] == [{"from": "f32", "to": "bf16", "tensors": 2}]


def test_notes_of_the_source_are_passed_on() -> None:
    source = Headers({"a": (2,)})
    source.notes = ("one file is ignored",)
    assert "note        one file is ignored" in str(plan_weights([WeightSpec("a", (2,))], source).report)
