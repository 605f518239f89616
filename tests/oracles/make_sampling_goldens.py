"""Make `runtime/data/sampling.json`: what transformers' logits processors leave of given logits.

Run with torch and transformers:

    python tests/oracles/make_sampling_goldens.py

The processors come from `generate`'s own list, so their order is theirs. The script fails where a
probability lies so near a threshold that float32 and float64 may disagree.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

PATH = Path(__file__).parents[1] / "runtime" / "data" / "sampling.json"
VOCAB = 150


def logits() -> dict[str, np.ndarray]:
    """Rows of several kinds; all are exact in float16, so that JSON holds them exactly and briefly."""
    rng = np.random.default_rng(5)
    rows = {
        "flat": rng.normal(0, 0.3, VOCAB),
        "usual": rng.normal(0, 3, VOCAB),
        "peaked": np.where(np.arange(VOCAB) == 77, 25.0, rng.normal(0, 2, VOCAB)),
        "ties": np.round(rng.normal(0, 2, VOCAB)),
        "negative": rng.normal(-40, 5, VOCAB),
        "huge": rng.normal(0, 2000, VOCAB),
    }
    rows["masked"] = np.where(np.arange(VOCAB) % 3 == 0, -np.inf, rows["usual"])
    return {name: row.astype(np.float16).astype(np.float32) for name, row in rows.items()}


def settings() -> list[dict[str, Any]]:
    grid = itertools.product((0.7, 1.0, 1.6), (0, 1, 12), (1.0, 0.9, 0.31), (0.0, 0.06))
    plain = [dict(zip(("temperature", "top_k", "top_p", "min_p"), values, strict=True)) for values in grid]
    penal = [
        {"temperature": 0.9, "repetition_penalty": penalty, "top_p": top_p}
        for penalty in (1.3, 0.8)
        for top_p in (1.0, 0.8)
    ]
    return plain + penal


def main() -> None:
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = LlamaForCausalLM(config)
    rows = logits()
    history = [3, 77, 77, 149, 0, 12]
    cases = []
    for name, row in rows.items():
        for setting in settings():
            generation = GenerationConfig(do_sample=True, **({"top_k": 0} | setting))
            processors = model._get_logits_processor(
                generation_config=generation, input_ids_seq_length=len(history), device="cpu"
            )
            # Ties may fall on either side of top-p: transformers sorts them in no defined order.
            if name == "ties" and setting["top_p"] < 1.0:
                continue
            scores = processors(torch.tensor([history]), torch.tensor(row)[None])
            wide = processors(torch.tensor([history]), torch.tensor(row, dtype=torch.float64)[None])
            kept = torch.isfinite(scores[0])
            assert torch.equal(kept, torch.isfinite(wide[0])), (name, setting)
            probabilities = torch.softmax(wide[0], -1)[kept]
            cases.append(
                {
                    "logits": name,
                    "settings": setting,
                    "ids": torch.nonzero(kept)[:, 0].tolist(),
                    "probabilities": [float(f"{p:.9g}") for p in probabilities.tolist()],
                }
            )
    stored = {name: [None if np.isinf(x) else float(x) for x in row] for name, row in rows.items()}
    PATH.write_text(json.dumps({"logits": stored, "history": history, "cases": cases}) + "\n")
    print(f"{len(cases)} cases, {PATH.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
