"""Time per layer to declare, build, hash, print, parse and verify decoder flows of growing depth.

    python benchmarks/flow_scale.py [layers ...]        (default: 100 1000 10000)

Nothing is computed and no weight exists: the source only answers what a file header would.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from rlxflow import LlamaDecoderSpec, LlamaDecoderStage, ModelFlow, RopeTablesStage, TensorInfo
from rlxflow.dtypes import Array, f32
from rlxflow.ir.text import parse_graph, print_graph
from rlxflow.ir.verify import verify

T = TypeVar("T")
HIDDEN, VOCAB = 64, 1000


class Headers:
    """A weight source without data."""

    def __init__(self, flow: ModelFlow) -> None:
        self._infos = {
            s.key: TensorInfo(s.key, f32, tuple(HIDDEN if d is None else d for d in s.shape))
            for s in flow.weights()
        }

    def keys(self) -> Iterable[str]:
        return self._infos

    def info(self, key: str) -> TensorInfo:
        return self._infos[key]

    def read(self, key: str) -> Array:
        raise NotImplementedError("headers only")


def declare(num_layers: int) -> ModelFlow:
    def layer(i: int) -> LlamaDecoderStage:
        return LlamaDecoderStage(
            LlamaDecoderSpec(
                f"model.layers.{i}", HIDDEN, 4 * HIDDEN, num_heads=8, num_kv_heads=2, head_dim=8, eps=1e-6
            )
        )

    return (
        ModelFlow("deep")
        .decoder_inputs()
        .token_embed(VOCAB, HIDDEN)
        .rope_tables(RopeTablesStage(8, 10000.0))
        .repeat_layers(num_layers, layer)
        .final_norm(1e-6)
        .lm_head(VOCAB, HIDDEN)
    )


STEPS = ("declare", "hash flow", "print flow", "build", "digest", "print", "verify", "parse")


class Stopwatch:
    """CPU seconds of each call."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, step: Callable[..., T], *arguments: object) -> T:
        start = time.process_time()
        result = step(*arguments)
        self.times.append(time.process_time() - start)
        return result


def measure(depth: int) -> list[float]:
    """CPU seconds of each of `STEPS`."""
    gc.collect()  # else this depth pays for looking through what the last one left
    timed = Stopwatch()
    flow = timed(declare, depth)
    timed(hash, flow)
    timed(repr, flow)
    headers = Headers(flow)
    graph = timed(lambda: flow.build(headers).graph)
    timed(lambda: graph.digest)
    text = timed(print_graph, graph)
    timed(verify, graph)
    parsed = timed(parse_graph, text)
    if parsed.digest != graph.digest:
        raise SystemExit("the text form did not read back equal")
    return timed.times


def main(depths: list[int]) -> None:
    measure(10)  # imports and caches
    print("CPU µs per layer")
    print("".join(f"{name:>12}" for name in ("layers", *STEPS, "total")))
    for depth in depths:
        times = measure(depth)
        print(f"{depth:12}" + "".join(f"{t / depth * 1e6:12.1f}" for t in (*times, sum(times))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("layers", type=int, nargs="*", default=[100, 1000, 10000])
    main(parser.parse_args().layers)
