"""Attention sinks and clamped networks: a flow of them is HF's gpt-oss with one expert, on both backends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from goldens import FOLDER, error
from tiny_weights import tiny_tensor

from rlxflow import (
    ClampedMlpStage,
    LayerStack,
    MapWeights,
    ModelFlow,
    RopeTablesStage,
    SelfAttentionSpec,
)
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.profile.load import load_profile

CONFIGS = json.loads((FOLDER / "gpt_oss.json").read_text())
TOLERANCE = 2e-5
BACKENDS = ("reference", "cpu")


def case(name: str) -> tuple[dict[str, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with np.load(FOLDER / "gpt_oss.npz", allow_pickle=False) as file:  # noqa: TID251 (our own file)
        return CONFIGS[name], file[f"{name}/ids"], file[f"{name}/hidden"]


def attention(config: Mapping[str, Any], i: int) -> SelfAttentionSpec:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    spec = SelfAttentionSpec(
        f"layers.{i}.self_attn", config["hidden_size"], heads, kv_heads, config["head_dim"],
        qkv_bias=True, out_bias=True, sinks=True,
    )  # fmt: skip
    local = config["layer_types"][i] == "sliding_attention"
    return replace(spec, window=config["sliding_window"]) if local else spec


def flow(config: Mapping[str, Any], sinks: bool = True) -> ModelFlow:
    h, n, eps = config["hidden_size"], config["intermediate_size"], config["rms_norm_eps"]
    limit, alpha = config["swiglu_limit"], config["swiglu_alpha"]

    def layer(i: int) -> LayerStack:
        stack = LayerStack("layer").residual_save()
        stack = stack.rms_norm(f"layers.{i}.input_layernorm.weight", eps, hidden_size=h)
        stack = stack.self_attention(replace(attention(config, i), sinks=sinks)).residual_add()
        stack = stack.residual_save()
        stack = stack.rms_norm(f"layers.{i}.post_attention_layernorm.weight", eps, hidden_size=h)
        return stack.clamped_mlp(ClampedMlpStage(f"layers.{i}.mlp", n, h, limit, alpha)).residual_add()

    made = ModelFlow("gpt_oss").decoder_inputs().embed("embed_tokens.weight", config["vocab_size"], h)
    made = made.rope_tables(RopeTablesStage(config["head_dim"], 10000.0))
    made = made.repeat_layers(config["num_hidden_layers"], layer)
    return made.rms_norm("norm.weight", eps, hidden_size=h).output("hidden")


def weights(config: Mapping[str, Any]) -> MapWeights:
    """HF's, with the only expert's columns of gate and up apart."""
    found = {}
    for spec in flow(config).weights():
        if ".mlp." not in spec.key:
            found[spec.key] = tiny_tensor(spec.key, spec.shape)  # type: ignore[arg-type]
    h, n = config["hidden_size"], config["intermediate_size"]
    for i in range(config["num_hidden_layers"]):
        p = f"layers.{i}.mlp"
        joined = tiny_tensor(f"{p}.experts.gate_up_proj", (1, h, 2 * n))[0].T
        biases = tiny_tensor(f"{p}.experts.gate_up_proj_bias", (1, 2 * n))[0]
        for part, name in enumerate(("gate", "up")):
            found[f"{p}.{name}_proj.weight"], found[f"{p}.{name}_proj.bias"] = (
                joined[part::2],
                biases[part::2],
            )
        found[f"{p}.down_proj.weight"] = tiny_tensor(f"{p}.experts.down_proj", (1, n, h))[0].T
        found[f"{p}.down_proj.bias"] = tiny_tensor(f"{p}.experts.down_proj_bias", (1, h))[0]
    return MapWeights(found)


def run(program: Any, ids: np.ndarray[Any, Any], *stops: int) -> np.ndarray[Any, Any]:
    """The outputs of a prompt given in pieces that end at `stops`."""
    state, parts, start = program.new_state(len(ids), 16), [], 0
    for stop in stops:
        lengths = {
            "past_len": np.full(len(ids), start, np.int32),
            "new_len": np.full(len(ids), stop - start, np.int32),
        }
        parts.append(program({"input_ids": ids[:, start:stop], **lengths}, state)["hidden"])
        start = stop
    return np.concatenate(parts, 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CONFIGS)
def test_agrees_with_hugging_face_whole_in_pieces_and_token_by_token(name: str, backend: str) -> None:
    config, ids, expected = case(name)
    profile = load_profile("exact", [f"backend.name={backend}"])
    program = flow(config).build(weights(config)).compile(profile)
    assert isinstance(program, CpuExecutable) is (backend == "cpu")
    assert error(run(program, ids, 11), expected) <= TOLERANCE
    assert error(run(program, ids, 5, 8, 9, 11), expected) <= TOLERANCE
    assert error(run(program, ids, *range(1, 12)), expected) <= TOLERANCE


@pytest.mark.parametrize("changes", [{"sinks": False}, {"limit": 1e9}, {"alpha": 1.0}])
def test_each_part_matters(changes: dict[str, Any]) -> None:
    """What is checked above would show if a part were left out."""
    config, ids, expected = case("tight")
    config = config | {f"swiglu_{k}": v for k, v in changes.items() if k != "sinks"}
    program = flow(config, changes.get("sinks", True)).build(weights(config)).compile("exact")
    assert error(run(program, ids, 11), expected) > 100 * TOLERANCE


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_cache_sinks_are_one_more_column_of_the_softmax(backend: str) -> None:
    rng = np.random.default_rng(5)
    arrays = {f"a.{n}_proj.weight": rng.normal(size=(6, 6)).astype(np.float32) for n in "qkvo"}
    arrays["a.sinks"] = np.array([0.7, -1.2], np.float32)
    spec = SelfAttentionSpec("a", 6, 2, 2, 3, rope_table=None, mask_input="mask", sinks=True)
    made = ModelFlow("e").input("x", ("B", "S", 6)).input("mask", ("B", "S"), "i64").self_attention(spec)
    x, mask = rng.normal(size=(1, 5, 6)).astype(np.float32), np.array([[1, 1, 1, 1, 0]])
    program = (
        made.output("y").build(MapWeights(arrays)).compile(load_profile("exact", [f"backend.name={backend}"]))
    )
    found = program({"x": x, "mask": mask})["y"][0, :4]
    q, k, v = (x[0, :4].astype(float) @ arrays[f"a.{n}_proj.weight"].T for n in "qkv")
    heads = []
    for number, h in enumerate((slice(0, 3), slice(3, 6))):
        p = np.exp(q[:, h] @ k[:, h].T / np.sqrt(3))
        heads.append(p / (p.sum(1, keepdims=True) + np.exp(arrays["a.sinks"][number])) @ v[:, h])
    assert error(found, np.concatenate(heads, 1) @ arrays["a.o_proj.weight"].T) <= 1e-5
