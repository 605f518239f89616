"""Flows wired wrongly: every case gives its code, a remedy, and the path of the stage that made it.

Without a case, because the design has no such thing: rope tables shorter than a sequence (they are computed
for the positions of each call); prefill and decode mixed (one layer serves both); a residual saved twice
(residuals nest); layers of one name (the second gets a number); a plugin's API version (stages are checked by
what they have); dual streams (there is no such stage); a cache that overflows (a fact of a call, see R1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flow_samples import BERT, FakeWeights, ScaleStage, decoder, decoding, embedded, layer
from wiring_cases import CASES, custom, fails, mask_flow

from rlxflow.dtypes import bool_
from rlxflow.errors import FlowError, RlxError, WeightsError
from rlxflow.flow.emit import Problem
from rlxflow.flow.flow import ModelFlow
from rlxflow.ir.op import OPS, op
from rlxflow.ir.values import Type, Value
from rlxflow.ops.elementwise import neg
from rlxflow.stages.ffn import GatedMlpStage
from rlxflow.stages.rope import RopeTablesStage


def problems_of(declare: Callable[[], Any]) -> list[Problem]:
    """What is wrong with a flow: the error its declaration raises, or what check() finds."""
    try:
        flow = declare()
    except RlxError as error:
        return [Problem(error.code, error.message, error.where, error.hint)]
    return list(flow.check())


@pytest.mark.parametrize(
    ("declare", "code", "message", "hint", "where"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_wrong_wiring(declare: Callable[[], Any], code: str, message: str, hint: str, where: str) -> None:
    problems = problems_of(declare)
    assert [p.code for p in problems] == [code], problems
    (problem,) = problems
    assert message in problem.message and hint in problem.hint
    assert problem.where == where
    assert "\n" not in problem.message


def test_ids_are_unique_and_many() -> None:
    names = [c[0] for c in CASES]
    assert len(set(names)) == len(names) >= 60


def test_all_errors_at_once() -> None:
    flow = (
        decoding()
        .repeat_layers(3, lambda i: layer(i, num_kv_heads=3 if i == 1 else 2))
        .load_stream("nowhere")
        .residual_save()
        .custom(lambda e, x: e.weight("nothing"), name="mine")
        .output("y")
        .output("y")
        .lm_head(50, 16, tied=True)
    )
    problems = flow.check()
    assert [(p.code, p.where) for p in problems] == [
        ("RLX-F025", "lm_head"),
        ("RLX-F022", "layers.1.decoder_layer.attention"),
        ("RLX-F021", "load_stream"),
        ("RLX-F003", "mine"),
        ("RLX-F008", "output_2"),
        ("RLX-I010", "lm_head"),
        ("RLX-F012", "residual_save"),
    ]
    with pytest.raises(FlowError) as caught:
        flow.build(FakeWeights(decoder()))
    error = caught.value
    assert error.code == "RLX-F025" and error.where == "decoder" and "7 wiring problems" in error.message
    assert all(p.where in error.message and p.message in error.message for p in problems)
    assert [p["code"] for p in error.details["problems"]] == [p.code for p in problems]


def test_one_problem_is_raised_as_itself_with_its_cause() -> None:
    flow = custom(lambda e, x: {}["hidden"])
    with pytest.raises(FlowError, match="raised KeyError") as caught:
        flow.build(FakeWeights(flow))
    assert caught.value.code == "RLX-F024" and caught.value.where == "custom"
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_failure_is_not_reported_again_by_the_stages_after_it() -> None:
    no_tables = embedded().rope_tables(RopeTablesStage(4, 1e4)).repeat_layers(4, layer).rms_norm("n", 1e-6)
    assert [p.code for p in no_tables.check()] == ["RLX-F005"]
    no_embedding = (
        ModelFlow("m")
        .input("x", ("B", "S"))
        .embed("w", 5, 12)
        .repeat_layers(3, lambda i: ScaleStage("s", 12))
    )
    assert [p.where for p in no_embedding.residual_save().residual_add().check()] == ["embed"]


def test_many_problems_are_counted() -> None:
    flow = decoding().repeat_layers(15, lambda i: layer(i, num_kv_heads=3))
    with pytest.raises(FlowError) as caught:
        flow.build(FakeWeights(flow))
    assert "15 wiring problems" in caught.value.message and "and 5 more" in caught.value.message
    assert len(str(caught.value).splitlines()) <= 16


def test_F8_an_op_without_meaning_is_refused_when_it_is_compiled() -> None:
    @op("primitive")
    def meaningless(x: Value) -> Type:
        return x.type

    try:
        flow = custom(lambda e, x: meaningless(e.need(x)))
        assert flow.check() == ()
        with pytest.raises(RlxError, match="op 'meaningless' has no reference") as caught:
            flow.build(FakeWeights(flow)).compile("exact")
        assert caught.value.code == "RLX-B003" and caught.value.where == "custom"
    finally:
        del OPS["meaningless"]


def test_F9_a_flow_can_be_used_after_it_was_built() -> None:
    flow = decoder()
    before = repr(flow)
    first, second = flow.build(FakeWeights(flow)), flow.build(FakeWeights(flow))
    assert first.graph.digest == second.graph.digest and repr(flow) == before
    longer = flow.stage(ScaleStage("extra", 50)).output("scaled")
    assert longer != flow and longer.build(FakeWeights(longer)).graph.digest != first.graph.digest
    assert flow.build(FakeWeights(flow)).graph.digest == first.graph.digest


def test_F11_a_bool_mask_is_a_mask() -> None:
    flow = mask_flow(("B", "S"), "bool").bert_encoder_layer(BERT).mean_pool("attention_mask")
    assert flow.check() == () and flow.inputs[1].dtype == bool_


def test_sound_flows_have_no_problems() -> None:
    assert (
        decoder().check() == ()
        and embedded().residual_save().residual_save().residual_add().residual_add().check() == ()
    )
    assert embedded().repeat_layers(0, fails).check() == ()
    assert embedded().custom(lambda e, x: None).custom(lambda e, x: neg(e.need(x))).check() == ()


def test_plain_arrays_are_no_source_of_weights() -> None:
    flow = ModelFlow("one").input("x", ("B", 8), "f32").linear("fc.weight", 16).output("y")
    for given in ({"fc.weight": np.ones((16, 8))}, None):
        with pytest.raises(WeightsError) as caught:
            flow.build(given)  # type: ignore[arg-type]
        assert caught.value.code == "RLX-W051" and "MapWeights" in caught.value.hint


def test_an_argument_in_a_key_s_place_is_told_as_such() -> None:
    """GatedMlpStage takes three keys; a prefix and sizes are what other stages take."""
    flow = ModelFlow("m").input("x", ("B", 4), "f32").stage(GatedMlpStage("mlp", 4, 8))  # type: ignore[arg-type]
    first, *_ = flow.output("y").check()
    assert first.code == "RLX-F023" and "the key 4 is not a string" in first.message
