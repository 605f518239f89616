"""Weight plans: what is found, tied, renamed and refused, before any data is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from effort import calls_of
from plan_samples import EMBED, HEAD, Headers, but, decoder, stored, text_of

from rlxflow.dtypes import DType
from rlxflow.errors import MissingTensor, ShapeMismatch, UnsupportedFile, WeightsError
from rlxflow.weights.plan import WeightPlan, WeightSpec, plan_weights
from rlxflow.weights.source import MapWeights, TensorInfo

# -- what is found


def test_a_complete_checkpoint_without_reading_data() -> None:
    specs = decoder()
    plan = plan_weights(specs, stored(specs, but(HEAD)))
    assert isinstance(plan, WeightPlan)
    assert {key: t and t.key for key, t in plan.tensors.items()} == {
        **{spec.key: spec.key for spec in specs},
        HEAD: EMBED,
    }
    report = plan.report
    assert report.ok and (report.found, report.wanted) == (15, 15)
    assert report.params == 32 * 8 + 8 + 4 * (64 + 128 + 8)
    assert plan.nbytes == report.nbytes == 4 * report.params
    assert report.where == "model.safetensors"


def test_none_is_any_size_but_not_any_rank() -> None:
    source = Headers({"a": (3, 5)})
    assert plan_weights([WeightSpec("a", (None, 5))], source).report.ok
    for shape in [(None, 4), (None,), (None, None, None), ()]:
        with pytest.raises(ShapeMismatch):
            plan_weights([WeightSpec("a", shape)], source)


def test_identical_specs_merge_and_others_conflict() -> None:
    source = Headers({"a": (3,), "b": (4,)})
    plan = plan_weights([WeightSpec("a", (3,)), WeightSpec("a", (3,))], source)
    assert plan.report.wanted == 1
    for other in [WeightSpec("a", (4,)), WeightSpec("a", (3,), optional=True)]:
        with pytest.raises(WeightsError) as caught:
            plan_weights([WeightSpec("a", (3,)), other], source)
        assert (caught.value.code, caught.value.where) == ("RLX-W032", "a")
        assert "same shape" in caught.value.hint


def test_the_prefix_that_most_keys_have_is_chosen() -> None:
    specs = [WeightSpec(f"encoder.{i}.weight", (2,)) for i in range(3)] + [WeightSpec("cls.weight", (2,))]
    source = Headers({**{f"bert.encoder.{i}.weight": (2,) for i in range(3)}, "cls.weight": (2,)})
    plan = plan_weights(specs, source, prefixes=("", "bert.", "roberta."))
    assert plan.report.prefix == "bert."
    assert plan.tensors["encoder.1.weight"].key == "bert.encoder.1.weight"
    assert plan.tensors["cls.weight"].key == "cls.weight"  # heads stand beside the prefixed body
    assert plan.report.renamed == ()
    assert 'prefix      "bert."' in str(plan.report)


def test_no_prefix_is_preferred() -> None:
    source = Headers({"a": (2,), "bert.a": (2,)})
    plan = plan_weights([WeightSpec("a", (2,))], source, prefixes=("", "bert."))
    assert plan.tensors["a"].key == "a" and plan.report.unexpected == ("bert.a",)


def test_alternatives_are_tried_in_order_and_reported() -> None:
    spec = WeightSpec("norm.weight", (2,), alternatives=("norm.gamma", "ln.g"))
    plan = plan_weights([spec], Headers({"ln.g": (2,), "norm.gamma": (2,)}))
    assert plan.tensors["norm.weight"].key == "norm.gamma"
    assert plan.report.renamed == (("norm.weight", "norm.gamma"),)
    assert "renamed     norm.weight <- norm.gamma" in str(plan.report)


def test_optional_weights_may_be_absent_but_not_misshapen() -> None:
    spec = WeightSpec("bias", (2,), optional=True)
    plan = plan_weights([spec], Headers({}))
    assert plan.tensors == {"bias": None} and plan.report.ok
    with pytest.raises(ShapeMismatch):
        plan_weights([spec], Headers({"bias": (3,)}))


def test_unused_tensors_are_expected_or_not() -> None:
    specs = [WeightSpec("a", (2,))]
    source = Headers({"m.a": (2,), "m.rope.inv_freq": (4,), "cls.bias": (2,), "m.extra": (2,)})
    plan = plan_weights(specs, source, prefixes=("m.",), expected_unused=("cls.*", "rope.*"))
    assert plan.report.ignored == ("m.rope.inv_freq", "cls.bias")
    assert plan.report.unexpected == ("m.extra",)
    assert "(expected)" in str(plan.report)


# -- ties


def test_tied_and_absent() -> None:
    specs = decoder()
    report = plan_weights(specs, stored(specs, but(HEAD))).report
    assert [(t.key, t.to, t.found) for t in report.tied] == [(HEAD, EMBED, "absent")]
    assert f"tied        {HEAD} <- {EMBED}  (absent from the files)" in str(report)


def test_tied_and_both_stored() -> None:
    specs = decoder()
    plan = plan_weights(specs, stored(specs))
    assert plan.report.tied[0].found == "both"
    assert plan.tensors[HEAD].key == EMBED
    assert plan.report.unexpected == () and plan.report.params == 32 * 8 + 8 + 4 * (64 + 128 + 8)


def test_tied_and_stored_under_the_other_name() -> None:
    specs = decoder()
    plan = plan_weights(specs, stored(specs, but(EMBED)))
    assert plan.report.tied[0].found == "stored"
    assert plan.tensors[EMBED].key == plan.tensors[HEAD].key == HEAD


def test_tied_and_neither_stored_misses_one() -> None:
    specs = decoder()
    with pytest.raises(MissingTensor) as caught:
        plan_weights(specs, stored(specs, but(EMBED, HEAD)))
    assert caught.value.details["report"]["missing"] == [EMBED]


def test_untied_and_absent() -> None:
    specs = decoder(tied=False)
    with pytest.raises(MissingTensor) as caught:
        plan_weights(specs, stored(specs, but(HEAD)))
    assert "only the output head is missing" in text_of(caught.value)
    assert "tie_word_embeddings" in caught.value.hint


def test_tied_to_a_weight_that_no_stage_wants() -> None:
    plan = plan_weights([WeightSpec("head", (2,), tied_to="embed")], Headers({"embed": (2,)}))
    assert plan.tensors["head"].key == "embed" and plan.report.unexpected == ()


@pytest.mark.parametrize("other", [0, 1])
def test_both_stored_are_compared_when_asked(other: int) -> None:
    specs = [WeightSpec("e", (2, 2)), WeightSpec("h", (2, 2), tied_to="e")]
    source = MapWeights({"e": np.zeros((2, 2), "f4"), "h": np.full((2, 2), other, "f4")})
    plan = plan_weights(specs, source)
    if not other:
        plan.check_ties(source)
        return
    with pytest.raises(WeightsError) as caught:
        plan.check_ties(source)
    assert caught.value.code == "RLX-W037"
    assert "tie_word_embeddings" in caught.value.hint


def test_a_tie_stored_once_needs_no_comparison() -> None:
    specs = decoder()
    source = stored(specs, but(HEAD))
    plan_weights(specs, source).check_ties(source)  # Headers fails on any read


def test_tied_in_another_dtype_is_another_tensor() -> None:
    specs = [WeightSpec("e", (2,)), WeightSpec("h", (2,), tied_to="e")]
    source = MapWeights({"e": np.zeros(2, "f4"), "h": np.zeros(2, "i4")})
    with pytest.raises(WeightsError, match="two tensors are stored"):
        plan_weights(specs, source).check_ties(source)


# -- what is refused


def test_all_problems_come_in_one_error() -> None:
    specs = decoder(tied=False)
    source = stored(specs, but("model.norm.weight"))
    source.shapes["model.layers.2.mlp.down_proj.weight"] = (9, 9)
    source.shapes["stray"] = (1,)
    with pytest.raises(MissingTensor) as caught:
        plan_weights(specs, source)
    error = caught.value
    assert error.code == "RLX-W033" and error.where == "model.safetensors"
    assert error.message.startswith("1 of 15 tensors missing, 1 of 15 tensors of another shape")
    assert "missing     model.norm.weight" in text_of(error)
    assert "model.layers.2.mlp.down_proj.weight  wanted [8, 16], found [9, 9]" in text_of(error)
    assert "unexpected  stray" in text_of(error)
    assert json.loads(json.dumps(error.as_dict()))["details"]["report"]["unexpected"] == ["stray"]


def test_a_dtype_that_cannot_be_read() -> None:
    source = Headers({"a": (2,)}, DType("f8_e4m3", "opaque", 1))
    with pytest.raises(UnsupportedFile) as caught:
        plan_weights([WeightSpec("a", (2,))], source)
    assert caught.value.code == "RLX-W020"
    assert "unreadable  a  dtype f8_e4m3" in text_of(caught.value)


def test_unused_tensors_may_have_any_dtype() -> None:
    assert plan_weights([], Headers({"a": (2,)}, DType("f4", "opaque", 1, 2))).report.unexpected == ("a",)


def test_a_source_that_refuses_a_tensor() -> None:
    class Refusing(Headers):
        def info(self, key: str) -> TensorInfo:
            raise UnsupportedFile("type iq2_xxs", code="RLX-W041")

    with pytest.raises(UnsupportedFile) as caught:
        plan_weights([WeightSpec("a", (2,))], Refusing({"a": (2,)}))
    assert "unreadable  a  type iq2_xxs" in text_of(caught.value)


@pytest.mark.parametrize("rename", [str, lambda k: f"x.{k}", lambda k: f"{hash(k)}.query.weight"])
def test_work_is_linear_in_tensors(rename: Callable[[str], str]) -> None:
    def plan(specs: list[WeightSpec], source: Headers) -> None:
        try:
            plan_weights(specs, source)
        except MissingTensor as error:
            text_of(error)

    calls = []
    for count in (2_000, 20_000):
        specs = [WeightSpec(f"model.layers.{i}.a.query.weight", (1,)) for i in range(count)]
        calls.append(calls_of(partial(plan, specs, stored(specs, rename))))
    assert calls[1] <= 12 * calls[0] + 10_000


# -- the view


def test_view_reads_under_the_wanted_keys() -> None:
    source = MapWeights({"bert.a": np.arange(2, dtype="f4"), "bert.e": np.ones(3, "f4")})
    specs = [
        WeightSpec("a", (2,)),
        WeightSpec("e", (3,)),
        WeightSpec("h", (3,), tied_to="e"),
        WeightSpec("bias", (3,), optional=True),
    ]
    view = plan_weights(specs, source, prefixes=("bert.",)).view(source)
    assert list(view.keys()) == ["a", "e", "h"]
    assert view.info("h").key == "h" and view.info("h").shape == (3,)
    assert view.read("a").tolist() == [0, 1] and view.read("h") is view.read("e")
    with pytest.raises(MissingTensor):
        view.read("bias")
