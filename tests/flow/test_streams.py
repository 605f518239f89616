"""Streams: stored, loaded, bound to inputs, and two at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlxflow import Emit, FlowValue, MapWeights, ModelFlow, dual_stream_stage, stream_id
from rlxflow.ops.elementwise import add, mul

IMAGE, TEXT = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)


def two_inputs() -> ModelFlow:
    flow = ModelFlow("two").input("image", ("B", 2)).input("text", ("B", 2))
    return flow.bind_inputs_to_streams([("image", stream_id.IMG), ("text", stream_id.TXT)])


def crossed(e: Emit, image: FlowValue, text: FlowValue) -> tuple[FlowValue, FlowValue]:
    return add(image, text), mul(text, e.weight("gate"))


def run(flow: ModelFlow, **weights: Any) -> dict[str, Any]:
    arrays = {key: np.asarray(value, np.float32) for key, value in weights.items()}
    return flow.build(MapWeights(arrays)).compile()({"image": IMAGE, "text": TEXT})


def test_a_dual_stream_reads_both_and_writes_both() -> None:
    flow = two_inputs().dual_stream("block", stream_id.IMG, stream_id.TXT, crossed, {"gate": (2,)})
    flow = flow.load_stream("img").output("image_out").load_stream("txt").output("text_out")
    result = run(flow, gate=[10, 100])
    assert result["image_out"].tolist() == [[4, 6]]
    assert result["text_out"].tolist() == [[30, 400]]


def test_the_active_value_passes_a_dual_stream_by() -> None:
    flow = two_inputs().dual_stream("block", "img", "txt", crossed, {"gate": (2,)}).output("active")
    assert run(flow, gate=[10, 100])["active"].tolist() == IMAGE.tolist()


def test_a_stored_stream_does_not_follow_the_active_value() -> None:
    def doubled(e: Emit, x: FlowValue | None) -> FlowValue:
        return add(e.need(x), e.need(x))

    flow = two_inputs().store_stream(stream_id.MAIN).plugin(doubled).output("twice")
    result = run(flow.load_stream(stream_id.MAIN).output("once"))
    assert result["twice"].tolist() == [[2, 4]]
    assert result["once"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda e, a, b: a, "RLX-F009"),
        (lambda e, a, b: (a, None), "RLX-F009"),
        (lambda e, a, b: (a, e.input("wide")), "RLX-F020"),
    ],
)
def test_a_dual_function_that_breaks_the_contract(wrong: Any, code: str) -> None:
    flow = two_inputs().input("wide", ("B", 3)).stage(dual_stream_stage("block", "img", "txt", wrong))
    (problem,) = flow.output("y").check()
    assert (problem.code, problem.where) == (code, "block")


def test_an_unknown_stream_names_the_nearest() -> None:
    flow = two_inputs().dual_stream("block", "imgs", "txt", crossed, {"gate": (2,)}).output("y")
    (problem,) = flow.check()
    assert problem.code == "RLX-F021" and "img" in problem.hint
