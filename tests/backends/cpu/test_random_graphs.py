"""Random graphs of supported ops: fused, unfused and by the reference, on ragged batches, in checked mode."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from compare import TARGETS, Array, Program, close, lengths_mask, rand

from rlxflow.dtypes import f32, i64
from rlxflow.ir.dims import dim
from rlxflow.ir.op import OPS
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import add, less, maximum, mul, sub, where
from rlxflow.ops.leaves import full, iota
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import l2_normalize, layer_norm, rms_norm, softmax
from rlxflow.ops.pooling import mean_pool
from rlxflow.ops.shape import concat, gather, reshape, slice_
from rlxflow.profile.load import load_profile

B, S = dim("B"), dim("S")
HEADS, HEAD_DIM = 3, 7
WIDTH = HEADS * HEAD_DIM
BOUNDED = ("tanh", "gelu", "silu", "relu", "sigmoid", "neg", "gelu_tanh")
UNFUSED = load_profile("exact", ["backend.cpu.unfuse_regions=true", "backend.cpu.threads=2"])


def params_of(rng: np.random.Generator) -> dict[str, Array]:
    shapes = {"row": (WIDTH,), "gain": (WIDTH,), "dim": (HEAD_DIM,), "one": (1,), "table": (11, WIDTH),
              "places": (40, WIDTH), "square": (WIDTH, WIDTH), "up": (50, WIDTH),
              "down": (WIDTH, 50)}  # fmt: skip
    return {n: rand(rng, *s, scale=0.3) for n, s in shapes.items()}


def random_graph(
    rng: np.random.Generator, v: Mapping[str, Value], p: Mapping[str, Value]
) -> Mapping[str, Value]:
    """Values of the one shape [B, S, WIDTH], grown one op at a time from each other."""
    pool = [v["x"], gather(p["table"], v["ids"])]

    def pick() -> Value:
        return pool[int(rng.integers(max(0, len(pool) - 4), len(pool)))]

    def heads(x: Value) -> Value:
        return reshape(x, shape=(B, S, HEADS, HEAD_DIM))

    def flat(x: Value) -> Value:
        return reshape(x, shape=(B, S, WIDTH))

    def first(x: Value) -> Value:
        return slice_(x, axis=1, start=0, stop=1)

    def columns(start: int, stop: int) -> Value:
        return slice_(pick(), axis=2, start=start, stop=stop)

    makers = [
        lambda: add(pick(), pick()),
        lambda: sub(pick(), mul(pick(), p["row"])),
        lambda: maximum(pick(), p["one"]),
        lambda: where(less(pick(), pick()), pick(), full(value=0.25, dtype=f32, shape=())),
        lambda: OPS[BOUNDED[int(rng.integers(len(BOUNDED)))]](pick()),
        lambda: layer_norm(pick(), p["gain"], p["row"], eps=1e-3),
        lambda: rms_norm(pick(), p["gain"], eps=1e-2, unit_offset=True),
        lambda: flat(rms_norm(heads(pick()), p["dim"], eps=1e-2)),
        lambda: flat(mul(softmax(heads(pick())), p["dim"])),
        lambda: l2_normalize(pick(), eps=0.1),
        lambda: linear(pick(), p["square"]),
        lambda: linear(OPS["gelu"](linear(pick(), p["up"])), p["down"]),
        lambda: flat(attention(heads(pick()), heads(pick()), heads(pick()), v["mask"], scale=0.4)),
        lambda: add(pick(), gather(p["places"], iota(size=S, dtype=i64))),
        lambda: sub(pick(), first(pick())),
        lambda: add(pick(), reshape(mean_pool(pick(), v["mask"]), shape=(B, 1, WIDTH))),
        lambda: concat(columns(9, WIDTH), columns(0, 9), axis=2),
    ]  # fmt: skip
    for _ in range(int(rng.integers(4, 14))):
        pool.append(makers[int(rng.integers(len(makers)))]())
    outputs = {"last": pool[-1], "pooled": mean_pool(pool[-1], v["mask"]), "first": first(pool[-2])}
    return {**outputs, "other": pool[int(rng.integers(2, len(pool)))]}


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = {"x": (("B", "S", WIDTH), f32), "ids": (("B", "S"), i64), "mask": (("B", "S"), i64)}
    program = Program(lambda v, p: random_graph(rng, v, p), spec, params_of(rng))
    fused = program.compile(TARGETS[seed % 3])
    unfused = program.compile(TARGETS[seed % 3], profile=UNFUSED)
    for batch, tokens in ((1, 1), (1, 19), (4, 9)):
        lengths = tuple(int(n) for n in rng.integers(batch == 1, tokens + 1, batch))
        mask = lengths_mask(lengths, tokens, left=bool(seed % 2))
        mask[0, 1:-1:3] = 0
        inputs = {
            "x": rand(rng, batch, tokens, WIDTH),
            "ids": rng.integers(0, 11, (batch, tokens)),
            "mask": mask,
        }
        got, want = fused(inputs), program.reference(inputs)
        close(got, want, 3e-5)
        other = unfused(inputs)
        assert all(np.array_equal(got[n], other[n]) for n in got)
