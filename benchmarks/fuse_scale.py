"""Seconds to build and fuse a 70B-shaped Llama graph of 20, 80 and 320 layers. No weight exists.

    python benchmarks/fuse_scale.py [--repeats N]

Prints the best of N repeats per step, and what a layer costs; the last column should be flat.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from rlxflow import find_recipe
from rlxflow.flow.lowering import lower
from rlxflow.fusion.pipeline import facts_for, optimize
from rlxflow.ir.graph import Graph
from rlxflow.ir.verify import verify
from rlxflow.profile.load import load_profile

SHAPE = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "hidden_size": 8192,
    "intermediate_size": 28_672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}


def build(layers: int) -> Graph:
    """Recipe, flow, graph, verified."""
    recipe = find_recipe("llama")
    config = recipe.config({**SHAPE, "num_hidden_layers": layers}, "benchmark")
    graph = lower(recipe.flow(config)).graph
    assert graph is not None
    return verify(graph)


def best(repeats: int, run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest run, and its result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    profile = load_profile("exact")
    optimize(build(1), profile)  # patterns are traced once per process
    print(f"{'layers':>6}  {'nodes':>6}  {'fused':>6}  {'build':>7}  {'fuse':>7}  {'total':>7}  per layer")
    for layers in (20, 80, 320):
        built, graph = best(repeats, lambda layers=layers: build(layers))
        fused, optimized = best(repeats, lambda graph=graph: optimize(graph, profile, facts_for(profile, 1)))
        total = built + fused
        sizes = f"{layers:>6}  {len(graph.nodes):>6}  {len(optimized.graph.nodes):>6}"
        print(f"{sizes}  {built:>6.2f}s  {fused:>6.2f}s  {total:>6.2f}s  {1000 * total / layers:.2f} ms")


if __name__ == "__main__":
    main()
