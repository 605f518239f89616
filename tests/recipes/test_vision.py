"""Vision encoders of tiny random configs against Hugging Face in float32, fused, and under both policies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
from fusion.rules.fusing import expand
from model_files import write_golden

import rlxflow
from rlxflow.flow.built import build
from rlxflow.fusion.driver import fuse
from rlxflow.fusion.rule import Facts
from rlxflow.fusion.rules import all_rules
from rlxflow.profile.load import load_profile
from rlxflow.runtime.compile import explain
from rlxflow.runtime.model import Model

TOLERANCE = 1e-5
OUTPUTS = {"last_hidden_state": "last_hidden_state", "pooler_output": "embedding"}
CASES = [(t, n) for t in ("vit", "dinov2", "siglip_vision_model") for n in goldens.vision_names(t)]
cases = pytest.mark.parametrize(("model_type", "name"), CASES)


def built_model(golden: goldens.Golden, profile: str = "exact", *settings: str) -> Model:
    """The model for images of the golden's size."""
    recipe = rlxflow.find_recipe(golden.model_type)
    config: Any = recipe.config(golden.config, golden.name)
    config = config.with_images(*golden.inputs["pixel_values"].shape[2:])
    weights = rlxflow.MapWeights(golden.weights)
    options = load_profile(profile, list(settings))
    built = build(recipe.flow(config), weights, options, recipe.prefixes, recipe.unused)
    return Model(golden.name, replace(built, expected=recipe.expected(config)), config)  # type: ignore[attr-defined]


def worst(model: Model, golden: goldens.Golden) -> float:
    found = model(pixel_values=golden.inputs["pixel_values"])
    return max(goldens.error(found[OUTPUTS[name]], array) for name, array in golden.expected.items())


@cases
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_agrees_with_hugging_face(model_type: str, name: str, backend: str) -> None:
    golden = goldens.vision_case(model_type, name)
    model = built_model(golden, "exact", "fusion.assert_clean=true", f"backend.name={backend}")
    assert worst(model, golden) <= TOLERANCE
    assert not model.report.unexpected


@cases
@pytest.mark.parametrize("tokens", [1, 4096])
def test_both_policies_reach_one_graph(model_type: str, name: str, tokens: int) -> None:
    golden = goldens.vision_case(model_type, name)
    direct, fusable = (built_model(golden, "exact", f"fusion.policy={p}") for p in ("direct", "fusable"))
    assert direct.graph.digest != fusable.graph.digest
    graphs = [fuse(g, all_rules(), Facts(tokens))[0] for g in (expand(direct.graph), fusable.graph)]
    assert graphs[0].digest == graphs[1].digest
    assert explain(fusable.built, 1, tokens).report.clean


@pytest.mark.parametrize("model_type", ["vit", "dinov2", "siglip_vision_model"])
def test_an_image_has_the_same_bits_in_any_batch(model_type: str) -> None:
    golden = goldens.vision_case(model_type, "plain")
    model, images = built_model(golden), golden.inputs["pixel_values"]
    together = model(pixel_values=np.concatenate([images, images[::-1]]))
    for name, array in model(pixel_values=images[:1]).items():
        assert np.array_equal(array[0], together[name][0])
        assert np.array_equal(array[0], together[name][-1])


def test_the_first_token_is_the_embedding(tmp_path: Path) -> None:
    golden = goldens.vision_case("vit", "plain")
    model = rlxflow.load(write_golden(tmp_path, golden))
    found = model(pixel_values=golden.inputs["pixel_values"])
    assert np.array_equal(found["embedding"], found["last_hidden_state"][:, 0])


@pytest.mark.parametrize("dtype", [np.float16])
@pytest.mark.parametrize("model_type", ["vit", "dinov2", "siglip_vision_model"])
def test_half_precision_checkpoints(model_type: str, dtype: Any) -> None:
    golden = goldens.vision_case(model_type, "plain")
    rounded = {key: value.astype(dtype) for key, value in golden.weights.items()}
    stored = replace_weights(golden, rounded)
    widened = replace_weights(golden, {key: value.astype(np.float32) for key, value in rounded.items()})
    image = golden.inputs["pixel_values"]
    for name, array in stored(pixel_values=image).items():
        assert goldens.error(array, widened(pixel_values=image)[name]) <= TOLERANCE


def replace_weights(golden: goldens.Golden, weights: dict[str, Any]) -> Model:
    recipe = rlxflow.find_recipe(golden.model_type)
    config: Any = recipe.config(golden.config, golden.name)
    return Model(golden.name, recipe.flow(config).build(rlxflow.MapWeights(weights)), config)


@pytest.mark.parametrize(
    ("model_type", "change", "code"),
    [
        ("vit", {"patch_size": 25}, "RLX-C010"),
        ("vit", {"patch_size": [8, 8, 8]}, "RLX-C010"),
        ("vit", {"image_size": 0}, "RLX-C004"),
        ("vit", {"num_attention_heads": 5}, "RLX-C010"),
        ("vit", {"pooling": "mean"}, "RLX-C003"),
        ("dinov2", {"intermediate_size": 96}, "RLX-C003"),
        ("dinov2", {"mlp_ratio": 0}, "RLX-C004"),
        ("siglip_vision_model", {"image_size": [24, 24]}, "RLX-C004"),
        ("siglip_vision_model", {"hidden_act": "gelu_fast_tanh"}, "RLX-C005"),
    ],
)
def test_what_does_not_fit_is_refused(model_type: str, change: dict[str, Any], code: str) -> None:
    config = {**goldens.vision_case(model_type, "plain").config, **change}
    with pytest.raises(rlxflow.ConfigError) as caught:
        rlxflow.find_recipe(model_type).config(config, "config.json")
    assert caught.value.code == code and caught.value.hint


@pytest.mark.parametrize("model_type", ["vit", "siglip_vision_model"])
def test_only_dinov2_takes_images_of_another_size(model_type: str) -> None:
    golden = goldens.vision_case(model_type, "plain")
    config: Any = rlxflow.find_recipe(model_type).config(golden.config, "config.json")
    with pytest.raises(rlxflow.ConfigError, match="images are 32×24"):
        config.with_images(32, 24)


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 3, 24, 32), (1, 1, 24, 24)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    model = built_model(goldens.vision_case("vit", "plain"))
    with pytest.raises(rlxflow.RlxError) as caught:
        model(pixel_values=np.zeros(shape, np.float32))
    assert caught.value.code == "RLX-R003" and "f32[B,3,24,24]" in caught.value.hint
