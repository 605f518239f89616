"""Row kernels: elementwise ops, norms, gathers, pooling and moves, at odd widths and on every target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from compare import TARGETS, Program, close, lengths_mask, rand

from rlxflow.backends.cpu.kernels.rows import Rows
from rlxflow.dtypes import f32, i32, i64
from rlxflow.ir.dims import dim
from rlxflow.ir.op import OPS
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add, div, less, maximum, minimum, mul, sub, where
from rlxflow.ops.leaves import full, iota
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import l2_normalize, layer_norm, rms_norm, softmax
from rlxflow.ops.pooling import mean_pool
from rlxflow.ops.shape import broadcast_to, concat, gather, reshape, slice_

BS = (dim("B"), dim("S"))
WIDTHS = (1, 3, 16, 17, 70, 200)
UNARY = ("neg", "exp", "tanh", "sqrt", "rsqrt", "gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "relu2",
         "sigmoid")  # fmt: skip
EDGES = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1e-30,
    -1e-30,
    1e30,
    -1e30,
    88.0,
    89.0,
    -87.0,
    -90.0,
    0.5,
    -4.0,
    9.5,
]

targets = pytest.mark.parametrize("target", TARGETS)


def inputs_of(rng: np.random.Generator, batch: int, tokens: int, width: int) -> Mapping[str, Any]:
    lengths = tuple(int(n) for n in rng.integers(1, tokens + 1, batch))
    return {
        "x": rand(rng, batch, tokens, width, scale=2),
        "mask": lengths_mask(lengths, tokens, left=batch == 3),
    }


@targets
def test_unary_ops_and_their_edges(target: str) -> None:
    """Every op at widths with and without tails; NaN and infinities come out as NumPy has them."""

    def build(v: Mapping[str, Value], _: Mapping[str, Value]) -> Mapping[str, Value]:
        return {f"{n}{w}": OPS[n](v[f"x{w}"]) for n in UNARY for w in (16, 21)}

    program = Program(build, {f"x{w}": (("B", "S", w), f32) for w in (16, 21)})
    run = program.compile(target)
    x16 = np.array(EDGES, np.float32).reshape(1, 1, 16)
    x21 = np.linspace(-20, 20, 2 * 2 * 21, dtype=np.float32).reshape(2, 2, 21)
    for inputs in ({"x16": x16, "x21": x21[:1, :1]}, {"x16": x16.repeat(2, 0).repeat(2, 1), "x21": x21}):
        got, want = run(inputs), program.reference(inputs)
        for name in want:  # large results by their own size
            scale = np.maximum(1, np.abs(np.nan_to_num(want[name], posinf=1, neginf=1)))
            close({name: got[name] / scale}, {name: want[name] / scale}, 1e-6)


@targets
def test_binary_ops_broadcast(target: str) -> None:
    rng = np.random.default_rng(0)
    params = {"row": rand(rng, 35), "inner": rand(rng, 7), "outer": rand(rng, 5, 1), "one": rand(rng, 1)}

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        x, y, token, seq = v["x"], v["y"], v["token"], v["seq"]
        pair = reshape(x, shape=(*BS, 5, 7))
        return {
            "add": add(x, y),
            "sub": sub(token, x),
            "mul": mul(x, p["row"]),
            "div": div(x, add(mul(y, y), full(value=0.5, dtype=f32, shape=()))),
            "max": maximum(x, seq),
            "min": minimum(p["one"], x),
            "where": where(less(x, y), token, x),
            "pairs": mul(add(pair, p["inner"]), p["outer"]),
            "split": add(reshape(y, shape=(*BS, 5, 7)), reshape(token, shape=(*BS, 1, 1))),
            "wide": broadcast_to(token, shape=(*BS, 18)),
        }  # fmt: skip

    shapes = {"x": ("B", "S", 35), "y": ("B", "S", 35), "token": ("B", "S", 1), "seq": ("B", 1, 35)}
    program = Program(build, {n: (s, f32) for n, s in shapes.items()}, params)
    run = program.compile(target)
    for batch, tokens in ((1, 1), (3, 4), (2, 9)):
        inputs = {
            n: rand(rng, *({"B": batch, "S": tokens}.get(d, d) for d in s))  # type: ignore[misc, call-overload]
            for n, s in shapes.items()
        }
        inputs["x"].flat[::11] = np.nan
        inputs["y"].flat[::13] = np.inf
        close(run(inputs), program.reference(inputs), 1e-6)


@targets
@pytest.mark.parametrize("width", WIDTHS)
def test_norms(width: int, target: str) -> None:
    if target != "avx512" and width not in (3, 70):
        pytest.skip("two widths are enough for the narrow targets")
    rng = np.random.default_rng(width)
    params = {"w": rand(rng, width), "b": rand(rng, width)}

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        x, heads = v["x"], v["heads"]
        normed = rms_norm(mul(x, x), p["b"], eps=1e-3)
        return {
            "layer": layer_norm(x, p["w"], p["b"], eps=1e-12),
            "plain": layer_norm(x, p["w"], eps=0.1),
            "rms": rms_norm(x, p["w"], eps=1e-6),
            "offset": rms_norm(x, p["w"], eps=0.5, unit_offset=True),
            "softmax": softmax(x),
            "unit": l2_normalize(x),
            "chain": OPS["tanh"](layer_norm(add(normed, x), p["w"], p["b"], eps=1e-5)),
            "heads": mul(rms_norm(heads, p["w"], eps=1e-6), p["b"]),
            "probabilities": softmax(heads),
            "pooled": l2_normalize(mean_pool(add(x, p["b"]), v["mask"])),
        }  # fmt: skip

    shapes = {"x": ("B", "S", width), "heads": ("B", "S", 3, width)}
    inputs_spec = {**{n: (s, f32) for n, s in shapes.items()}, "mask": (("B", "S"), i64)}
    program = Program(build, inputs_spec, params)
    run = program.compile(target)
    for batch, tokens in ((1, 1), (3, 5)):
        inputs = {**inputs_of(rng, batch, tokens, width), "heads": rand(rng, batch, tokens, 3, width)}
        close(run(inputs), program.reference(inputs), 3e-6)
        inputs["x"][0, -1, 0], inputs["heads"][0, -1, 1, -1] = np.nan, np.inf
        close(run(inputs), program.reference(inputs), 3e-6)
        inputs["x"][:], inputs["heads"][:] = 0.0, -1e4
        inputs["mask"][0] = 0
        close(run(inputs), program.reference(inputs), 3e-6)


@targets
def test_gathers_moves_and_pooling(target: str) -> None:
    rng = np.random.default_rng(1)
    params = {
        "words": rand(rng, 50, 37),
        "places": rand(rng, 9, 37),
        "kinds": rand(rng, 4, 37),
        "flat": rand(rng, 50),
    }

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        places = gather(p["places"], iota(size=dim("S"), dtype=i64))
        words = add(add(gather(p["words"], v["ids"]), places), gather(p["kinds"], v["kinds"]))
        first = slice_(words, axis=1, start=0, stop=1)
        return {
            "words": words,
            "first": reshape(first, shape=(BS[0], 37)),
            "tanh": OPS["tanh"](first),
            "spread": sub(words, first),
            "column": slice_(words, axis=2, start=5, stop=24),
            "joined": concat(slice_(words, axis=2, start=30, stop=37), words, v["x"], axis=-1),
            "mean": mean_pool(words, v["mask"]),
            "flat": gather(p["flat"], v["ids"]),
            "echo": v["x"],
            "start": slice_(v["x"], axis=1, start=0, stop=1),
        }

    spec = {
        "ids": (("B", "S"), i64),
        "kinds": (("B", 1), i32),
        "x": (("B", "S", 5), f32),
        "mask": (("B", "S"), i32),
    }
    program = Program(build, spec, params)
    run = program.compile(target)
    for lengths, size in (((1,), 1), ((4, 9, 2), 9), ((0, 3), 5)):
        batch = len(lengths)
        inputs = {
            "ids": rng.integers(0, 50, (batch, size)),
            "kinds": rng.integers(0, 4, (batch, 1)).astype(np.int32),
            "x": rand(rng, batch, size, 5),
            "mask": lengths_mask(lengths, size, left=size == 9).astype(np.int32),
        }
        close(run(inputs), program.reference(inputs), 1e-6)
        inputs["mask"][-1, 1:3] = 0  # a hole: the token stays, without weight
        inputs["x"][-1, 0, 0] = np.nan
        close(run(inputs), program.reference(inputs), 1e-6)


def test_zeros_of_either_sign_are_two_kernels() -> None:
    """-0.0 + 0.0 is 0.0, and -0.0 + -0.0 is -0.0: expressions that compare equal, with other results."""

    def build(v: Mapping[str, Value], _: Mapping[str, Value]) -> Mapping[str, Value]:
        zeros = {"plus": 0.0, "minus": -0.0}
        return {name: add(v["x"], full(value=zero, dtype=f32, shape=())) for name, zero in zeros.items()}

    program = Program(build, {"x": ((*BS, 16), f32)})
    found = program.compile()({"x": np.full((1, 2, 16), -0.0, np.float32)})
    assert not np.signbit(found["plus"]).any()
    assert np.signbit(found["minus"]).all()


@pytest.mark.parametrize("width", [5, 300])
def test_row_ops_are_written_over_what_they_alone_read(width: int) -> None:
    rng = np.random.default_rng(width)

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        alone, twice, given = (linear(v["x"], p[name]) for name in ("a", "b", "c"))
        heads = reshape(alone, shape=(*BS, 3, width))
        normed = softmax(rms_norm(heads, p["w"], eps=1e-6))
        return {
            "alone": linear(reshape(normed, shape=(*BS, 3 * width)), p["d"]),
            "twice": linear(softmax(add(softmax(twice), OPS["exp"](twice))), p["d"]),
            "normed": linear(softmax(given), p["d"]),
            "given": given,
        }

    weights = {name: rand(rng, 3 * width, 40, scale=0.2) for name in "abc"}
    program = Program(
        build, {"x": ((*BS, 40), f32)}, {**weights, "d": rand(rng, 7, 3 * width), "w": rand(rng, width)}
    )
    run = program.compile()
    steps = [s for s in run.plan.steps if isinstance(s.kernel, Rows) and s.kernel.out.kind == "buffer"]
    over = [s.kernel.expression.steps[0].op for s in steps if s.addresses[0] in s.addresses[1:]]
    assert over == ["rms_norm"]
    assert len(steps) > 2
    inputs = {"x": rand(rng, 2, 9, 40)}
    close(run(inputs), program.reference(inputs), 1e-5)
