"""What a plan that fails says of the likely cause."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from plan_samples import Headers, but, decoder, stored, text_of

from rlxflow.errors import MissingTensor, ShapeMismatch, UnsupportedFile, WeightsError
from rlxflow.weights.plan import WeightSpec, plan_weights


def q_as(ending: str) -> Callable[[str], str]:
    return lambda key: key.replace("q_proj.weight", "q_proj" + ending)


def first_two(key: str) -> str | None:
    return None if ".2." in key or ".3." in key else key


# id: (wanted, stored, error class, code, cause, hint)
CAUSES: dict[str, tuple[list[WeightSpec], Headers, type[WeightsError], str, str, str]] = {
    "prefix-added": (
        decoder(),
        stored(decoder(), lambda k: f"language_model.{k}"),
        MissingTensor,
        "W033",
        'every missing key exists with "language_model." in front',
        'prefixes=("", "language_model.")',
    ),
    "prefix-removed": (
        decoder(),
        stored(decoder(), lambda k: k.removeprefix("model.")),
        MissingTensor,
        "W033",
        'every missing key exists without "model." in front',
        "choose the recipe",
    ),
    "prefix-replaced": (
        decoder(),
        stored(decoder(), lambda k: k.replace("model.", "model.language_model.")),
        MissingTensor,
        "W033",
        '"model.language_model." in place of "model."',
        "choose the recipe",
    ),
    "prefix-of-most": (
        decoder(),
        stored(decoder(), lambda k: None if "norm" in k else f"x.{k}"),
        MissingTensor,
        "W033",
        'missing keys exist with "x." in front',
        "prefixes=",
    ),
    "gamma-beta": (
        [WeightSpec(f"LayerNorm.{i}.{n}", (2,)) for i in range(2) for n in ("weight", "bias")],
        Headers({f"LayerNorm.{i}.{n}": (2,) for i in range(2) for n in ("gamma", "beta")}),
        MissingTensor,
        "W033",
        "4 missing norm weights exist under the old names",
        "save the checkpoint again",
    ),
    "fewer-layers": (
        decoder(),
        stored(decoder(), first_two),
        MissingTensor,
        "W033",
        "the files have layers 0-1, the model wants layers 2-3 too",
        "num_hidden_layers",
    ),
    "transposed": (
        [WeightSpec(f"h.{i}.fc", (2, 6)) for i in range(3)],
        Headers({f"h.{i}.fc": (6, 2) for i in range(3)}),
        ShapeMismatch,
        "W034",
        "3 tensors are stored transposed",
        "Conv1D",
    ),
    "other-width": (
        [WeightSpec("a", (384, 384)), WeightSpec("b", (384,))],
        Headers({"a": (768, 768), "b": (768,)}),
        ShapeMismatch,
        "W034",
        "the files have 768 wherever the model wants 384",
        "config.json and weights",
    ),
    "other-vocabulary": (
        decoder(tied=False),
        Headers({s.key: (40, *s.shape[1:]) if s.shape[0] == 32 else s.shape for s in decoder()}),
        ShapeMismatch,
        "W034",
        "the files have 40 wherever the model wants 32 (rows of the vocabulary)",
        "config.json and weights",
    ),
    "other-architecture": (
        decoder(),
        Headers({f"transformer.h.{i}.attn.c_attn": (2,) for i in range(12)}),
        MissingTensor,
        "W033",
        "another architecture: the keys look like transformer.h.N",
        "recipe",
    ),
    "lora": (
        decoder(),
        Headers({"base_model.q_proj.lora_A.weight": (2,)}),
        MissingTensor,
        "W033",
        "LoRA adapter",
        "merge",
    ),
    **{
        f"quantised-{family}": (
            decoder(),
            Headers({**stored(decoder(), rename).shapes, **{f"model.layers.0.x{e}": (1,) for e in endings}}),
            UnsupportedFile,
            "W035",
            f"this is a {family} checkpoint",
            "unquantised checkpoint",
        )
        for family, rename, endings in [
            ("GPTQ", q_as(".qweight"), (".qzeros", ".g_idx")),
            ("AWQ", q_as(".qweight"), (".qzeros", ".scales")),
            ("bitsandbytes 8-bit", str, (".SCB",)),
            ("bitsandbytes 4-bit", str, (".weight.absmax", ".weight.quant_map")),
            ("compressed-tensors", q_as(".weight_packed"), (".weight_scale",)),
            ("block-scaled FP8", str, (".weight_scale_inv",)),
            ("FP8", str, (".weight_scale", ".input_scale")),
            ("MXFP4", str, ("_blocks", "_scales")),
        ]
    },
}


@pytest.mark.parametrize("case", CAUSES)
def test_likely_cause(case: str) -> None:
    specs, source, kind, code, cause, hint = CAUSES[case]
    with pytest.raises(kind) as caught:
        plan_weights(specs, source)
    assert type(caught.value) is kind
    assert caught.value.code == f"RLX-{code}"
    assert cause in text_of(caught.value)
    assert hint in caught.value.hint


def test_layers_left_out_are_named_though_nothing_is_missing() -> None:
    report = plan_weights(decoder(2), stored(decoder(4))).report
    assert report.ok and "layers 2-3" in report.cause.text and "num_hidden_layers" in report.cause.hint


def test_no_cause_is_invented() -> None:
    with pytest.raises(MissingTensor) as caught:
        plan_weights(decoder(), stored(decoder(), but("model.norm.weight")))
    assert "likely" not in text_of(caught.value)
    wanted = [WeightSpec(f"part{i}.w{i}", (1,)) for i in range(10)]
    few = Headers({f"x.part{i}.w{i}": (1,) for i in range(3)} | {f"part{i}.w{i}": (1,) for i in (8, 9)})
    with pytest.raises(MissingTensor) as caught:
        plan_weights(wanted, few)  # three of eight missing keys have a prefix: too few to say so
    assert "likely" not in text_of(caught.value)
