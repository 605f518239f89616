"""How near generated code and int8 activations come to the f32 reference on real text, beside llama.cpp.

    .venv-peers/bin/python benchmarks/decoder_accuracy.py [--positions 2000] [--greedy] [--q4-k-m]

SmolLM2-135M's GGUF file reads constitution.txt (preamble and Article I, public domain) as one sequence. Per
engine: the largest error of a logit, max|a - b| / max(1, max|b|), to the reference backend; mean divergence
(Kullback-Leibler) from its distribution; positions where the likeliest token is another; perplexity. With
--greedy, 8 prompts are continued by 256 tokens under `exact` by both backends; where two part, the gap of the
two best logits is told. With --q4-k-m the file is SmolLM2 in Q4_K_M, see `smollm2_q4_k_m`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from decoder_engines import silent
from decoder_models import cache_dir, smollm2, smollm2_q4_k_m

Logits = Iterator[np.ndarray]
CHUNK = 500
PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    "The three laws of motion are",
    "Dear Sir or Madam,",
    "1, 2, 3, 4, 5, 6,",
    "Water boils at a lower temperature on a mountain because",
    "To make bread, you need",
)


def load(path: Path, profile: str, backend: str, *settings: str):
    import rlxflow
    from rlxflow.profile import load_profile

    return rlxflow.load(path, load_profile(profile, [f"backend.name={backend}", *settings]))


def rlxflow_logits(path: Path, profile: str, backend: str, ids: list[int], *settings: str) -> Logits:
    from rlxflow.runtime.decoding import Decoding

    decoding = Decoding(load(path, profile, backend, *settings))
    for first in range(0, len(ids), CHUNK):
        yield decoding.feed({0: ids[first : first + CHUNK]}, every=True)[0]


def llama_cpp_logits(path: Path, ids: list[int]) -> Logits:
    import llama_cpp as api

    api.llama_log_set(silent(api), None)
    model = api.llama_model_load_from_file(bytes(path), api.llama_model_default_params())
    settings = api.llama_context_default_params()
    settings.n_ctx, settings.n_batch = len(ids) + 8, CHUNK
    context = api.llama_init_from_model(model, settings)
    rows = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
    batch = api.llama_batch_init(CHUNK, 0, 1)
    for first in range(0, len(ids), CHUNK):
        part = ids[first : first + CHUNK]
        batch.n_tokens = len(part)
        for i, token in enumerate(part):
            batch.token[i], batch.pos[i], batch.logits[i] = token, first + i, True
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        if api.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        rows_of = (api.llama_get_logits_ith(context, i) for i in range(len(part)))
        yield np.stack([np.ctypeslib.as_array(row, (rows,)).copy() for row in rows_of])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(1, keepdims=True))


def compare(found: Logits, reference: list[np.ndarray], targets: np.ndarray) -> tuple[float, ...]:
    """Largest error, mean KL in nats, share of other likeliest tokens, perplexity."""
    error, largest, divergence, other, surprise, first = 0.0, 1.0, 0.0, 0, 0.0, 0
    for logits, expected in zip(found, reference, strict=True):
        error = max(error, float(np.abs(logits - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
        p, q = log_softmax(expected), log_softmax(logits)
        divergence += float((np.exp(p) * (p - q)).sum())
        other += int((expected.argmax(1) != logits.argmax(1)).sum())
        here = targets[first : first + len(q)]
        surprise -= float(q[np.arange(len(here)), here].sum())
        first += len(here)
    count = sum(map(len, reference))
    return error / largest, divergence / count, other / count, float(np.exp(surprise / count))


def compare_all(path: Path, positions: int) -> None:
    text = (Path(__file__).parent / "constitution.txt").read_text("utf-8").split("\n", 1)[1]
    ids = load(path, "exact", "reference").require_tokenizer().encode(text)
    if len(ids) <= positions:
        raise SystemExit(f"the text has {len(ids) - 1} positions")
    ids, targets = ids[:positions], np.array(ids[1 : positions + 1])
    reference = list(rlxflow_logits(path, "exact", "reference", ids))
    engines: dict[str, Callable[[], Logits]] = {
        "reference": lambda: iter(reference),
        **{
            f"{profile}, {cache} cache": partial(
                rlxflow_logits, path, profile, "cpu", ids, f"precision.kv_cache={cache}"
            )
            for profile in ("exact", "decode")
            for cache in ("f32", "f16")
        },
    }
    if find_spec("llama_cpp") is None:
        print("left out: llama.cpp is not installed")
    else:
        engines["llama.cpp"] = lambda: llama_cpp_logits(path, ids)
    print(f"{path.stem} on {positions} positions of the Constitution")
    print(f"{'':18}{'error':>10}{'mean KL':>12}{'other top':>11}{'perplexity':>12}")
    for name, logits in engines.items():
        error, divergence, other, perplexity = compare(logits(), reference, targets)
        print(f"{name:18}{error:10.1e}{divergence:12.2e}{other:11.2%}{perplexity:12.4f}", flush=True)


def compare_greedy(path: Path, count: int) -> None:
    """The same tokens by both backends; or where they part, how near the two best logits are."""
    exact, reference = load(path, "exact", "cpu"), load(path, "exact", "reference")
    for prompt in PROMPTS:
        found = exact.generate(prompt, max_new_tokens=count).token_ids
        expected = reference.generate(prompt, max_new_tokens=count).token_ids
        if found == expected:
            print(f"{len(found):4} tokens identical: {prompt!r}", flush=True)
            continue
        step = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), -1)
        ids = reference.require_tokenizer().encode(prompt) + list(expected[:step])
        results = (model(input_ids=[ids], outputs="last_logits") for model in (exact, reference))
        rows = [result["last_logits"][0] for result in results]
        best, second = np.sort(rows[1])[[-1, -2]]
        error = np.abs(rows[0] - rows[1]).max()
        verdict = "a tie" if best - second < 2 * error else "WRONG"
        told = f"gap {best - second:.1e}, logit error {error:.1e}: {verdict}"
        print(f"parts at {step}, {told}: {prompt!r}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--positions", type=int, default=2000)
    parser.add_argument("--greedy", action="store_true", help="continue the 8 prompts instead")
    parser.add_argument("--tokens", type=int, default=256, help="with --greedy: how many")
    parser.add_argument("--q4-k-m", action="store_true", help="SmolLM2 in Q4_K_M rather than as published")
    options = parser.parse_args()
    path = smollm2_q4_k_m(cache_dir()) if options.q4_k_m else smollm2()
    if options.greedy:
        compare_greedy(path, options.tokens)
    else:
        compare_all(path, options.positions)


if __name__ == "__main__":
    main()
