"""Every public stage, compiled, against the reference: those of no recipe in small flows of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import goldens
import numpy as np
import pytest
from tiny_weights import tiny_tensor

import rlxflow
from rlxflow import (
    ClampedMlpStage,
    DecoderLayerSpec,
    DecoderLayerStage,
    GatedMlpStage,
    GatherLastTokenStage,
    LayerScaleStage,
    MapWeights,
    ModelFlow,
    Qwen3DecodeLayerSpec,
    Qwen3DecodeLayerStage,
    Qwen3DecoderSpec,
    Qwen3DecoderStage,
    RopeTablesStage,
    SideOutputs,
    SideOutputsStage,
    VisionSwiGluFfnStage,
    VitSelfAttnSpec,
    VitSelfAttnStage,
)
from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.fusion.pipeline import optimize
from rlxflow.fusion.rules import all_rules
from rlxflow.ops.elementwise import add, mul
from rlxflow.profile.load import load_profile

H = 16
ELSEWHERE = {"GdnScanStage"}  # compiled in tests/flow/test_gated_delta.py
PROTOCOLS = {"AttentionStage", "FfnStage", "FlowStage", "LayerStage", "NormStage", "Stage"}


def encoder() -> ModelFlow:
    flow = ModelFlow("encoder").input("x", ("B", "S", H)).input("ids", ("B", "S"), "i64")
    flow = flow.input("mask", ("B", "S"), "i64").bind_inputs_to_streams([("x", "a")])
    flow = flow.gather_from_input("ids", "table", 9, H).store_stream("b")
    flow = flow.dual_stream("mix", "a", "b", lambda e, a, b: (add(a, b), mul(a, e.weight("g"))), {"g": (H,)})
    flow = flow.load_stream("b").residual_save().linear("w", H, "w.bias").residual_add()
    flow = flow.stage(VitSelfAttnStage(VitSelfAttnSpec("attn", H, 2))).stage(LayerScaleStage("gamma", H))
    flow = flow.stage(VisionSwiGluFfnStage("ffn", H, 24)).clamped_mlp(ClampedMlpStage("mlp", 24, H))
    flow = flow.plugin_named("twice", lambda e, x: add(e.need(x), e.need(x))).load_stream("a")
    return flow.mean_pool("mask").l2_normalize().output("y")


def decoder() -> ModelFlow:
    sizes: dict[str, Any] = {"hidden_size": H, "intermediate_size": 24, "num_heads": 2, "num_kv_heads": 1}
    sizes |= {"head_dim": 8, "eps": 1e-6}
    flow = ModelFlow("decoder").decoder_inputs().token_embed(9, H).rope_tables(RopeTablesStage(8, 1e4))
    flow = flow.stage(DecoderLayerStage(DecoderLayerSpec("l0", **sizes)))
    flow = flow.stage(Qwen3DecoderStage(Qwen3DecoderSpec("l1", **sizes)))
    flow = flow.stage(Qwen3DecodeLayerStage(Qwen3DecodeLayerSpec("l2", **sizes)))
    tapped = SideOutputsStage(GatedMlpStage.hf("mlp", 24, hidden_size=H), SideOutputs(hidden="tapped"))
    return flow.stage(tapped).stage(GatherLastTokenStage()).output("y")


def programs(flow: ModelFlow) -> list[Any]:
    shapes = {s.key: tuple(H if n is None else n for n in s.shape) for s in flow.weights()}
    weights = MapWeights({key: tiny_tensor(key, shape) for key, shape in shapes.items()})
    made = [
        flow.build(weights).compile(load_profile("exact", [f"backend.name={name}"]))
        for name in ("reference", "cpu")
    ]
    assert isinstance(made[1], CpuExecutable)
    return made


def test_stages_of_encoders() -> None:
    rng = np.random.default_rng(3)
    inputs = {"x": rng.normal(size=(2, 5, H)).astype(np.float32), "ids": rng.integers(0, 9, (2, 5))}
    inputs["mask"] = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    one, other = (run(inputs)["y"] for run in programs(encoder()))
    assert np.abs(one).max() > 0.1 and goldens.error(other, one) <= 1e-5


def test_stages_of_decoders() -> None:
    ids, results = np.random.default_rng(4).integers(0, 9, (2, 6)), []
    for run in programs(decoder()):
        state, found = run.new_state(2, 8), []
        for past, new in (([0, 0], [5, 3]), ([5, 3], [1, 1])):
            lengths = {"past_len": np.array(past, np.int32), "new_len": np.array(new, np.int32)}
            out = run({"input_ids": ids[:, : max(new)], **lengths}, state)
            found += [out["y"], out["tapped"]]
        results.append(found)
    for one, other in zip(*results, strict=True):
        assert np.abs(one).max() > 0.1 and goldens.error(other, one) <= 1e-5


def test_every_public_stage_is_compiled_somewhere() -> None:
    """In the flows above, or in a recipe's, all of which are."""
    flows = [encoder(), decoder()]
    for kind in goldens.hf_model_types():
        flows.append(_recipe_flow(kind, goldens.hf_case(kind, "plain").config))
    for kind in ("vit", "dinov2", "siglip_vision_model"):
        flows.append(_recipe_flow(kind, goldens.vision_case(kind, "plain").config))
    flux = next(iter(goldens._json("flux")["cases"]))
    flows.append(_recipe_flow("flux_double_stream", flux["config"]))
    found = {type(part).__name__ for flow in flows for stage in flow.stages for part in _parts(stage)}
    wanted = {n for n in dir(rlxflow) if n.endswith("Stage")} - PROTOCOLS - ELSEWHERE
    assert {getattr(rlxflow, n).__name__ for n in wanted} <= found


def _recipe_flow(model_type: str, config: dict[str, Any]) -> ModelFlow:
    recipe: Any = rlxflow.find_recipe(model_type)
    return recipe.flow(recipe.config(config))  # type: ignore[no-any-return]


def _parts(stage: Any) -> Iterator[Any]:
    """A stage and those among its fields."""
    yield stage
    for value in (getattr(stage, f.name) for f in fields(stage)):
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part) and hasattr(part, "emit"):
                yield from _parts(part)


@pytest.mark.parametrize("kind", goldens.hf_model_types())
def test_recipes_run_compiled(kind: str, tmp_path: Any) -> None:
    from model_files import run, write_golden

    golden = goldens.hf_case(kind, "plain")
    model = rlxflow.load(write_golden(tmp_path, golden), profile=load_profile("exact", ["backend.name=cpu"]))
    assert isinstance(model.executable, CpuExecutable) and golden.error(run(model, golden)) <= 2e-5


@pytest.mark.parametrize("kind", goldens.hf_model_types())
def test_rules_that_a_backend_undoes_make_no_difference_to_it(kind: str, tmp_path: Any) -> None:
    """Compiling leaves them out: what they make is expanded again, to the same graph."""
    from model_files import write_golden

    built = rlxflow.load(write_golden(tmp_path, goldens.hf_case(kind, "plain")), profile="exact").built
    backend = CpuBackend()
    kept = [rule for rule in all_rules() if any(backend.runs(op) for op in rule.makes)]
    whole, part = (
        optimize(built.graph, built.profile, claims=backend.claims, rules=rules) for rules in (None, kept)
    )
    assert part.graph.digest == whole.graph.digest and part.expressions.keys() == whole.expressions.keys()
    assert len(whole.fused.nodes) < len(part.fused.nodes)
