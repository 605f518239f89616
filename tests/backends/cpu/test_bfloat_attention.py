"""Attention with products of bf16, against float64 softmax over the same rounded operands."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from compare import Array, Program, close, lengths_mask

from rlxflow.backends.cpu.checked import emit_controls
from rlxflow.backends.cpu.checked_call import CheckedCalls
from rlxflow.backends.cpu.code import PTR, Module, i64
from rlxflow.backends.cpu.frame import Frame
from rlxflow.backends.cpu.kernels.bfloat_attention import bfloat_item, can_attend, places
from rlxflow.backends.cpu.kernels.bfloat_tile import RoundedAttention
from rlxflow.backends.cpu.kernels.cached_attention import (
    CachedAttention,
    cached_attention_kernel,
    scratch_floats,
)
from rlxflow.backends.cpu.kernels.running_softmax import Shape
from rlxflow.backends.cpu.llvm import LoadedCode, compile_text, host_target
from rlxflow.backends.cpu.memory import address, aligned
from rlxflow.backends.cpu.ragged import MASK_SLACK
from rlxflow.dtypes import f32, i64 as i64_type
from rlxflow.ir.dims import dim
from rlxflow.ops.attention import attention
from rlxflow.ops.shape import reshape
from rlxflow.profile.load import load_profile

pytestmark = pytest.mark.skipif(
    not can_attend(host_target(), 64), reason="this processor has no bf16 products"
)
B, S = dim("B"), dim("S")
CAPACITY, TOKENS = 260, 48  # of a cache, of an item
PLAIN = RoundedAttention(
    Shape(64, 0.125, 0, 0.0), 2, causal=True, masked=False, sinks=False, half=False,
    q_stride=2 * 64, k_stride=64, v_stride=64, out_stride=2 * 64,
)  # fmt: skip
VARIANTS = {
    "plain": PLAIN,
    "one head": replace(PLAIN, heads=1, q_stride=80, out_stride=64),
    "wide heads of five": replace(
        PLAIN, shape=Shape(96, 0.1, 0, 0.0), heads=5, q_stride=480, k_stride=96, v_stride=96, out_stride=480
    ),
    "window": replace(PLAIN, shape=Shape(64, 0.125, 70, 0.0)),
    "short window": replace(PLAIN, shape=Shape(64, 0.125, 3, 0.0)),
    "softcap": replace(PLAIN, shape=Shape(64, 0.125, 0, 1.5)),
    "half caches": replace(PLAIN, half=True),
    "sinks": replace(PLAIN, sinks=True),
    "both ways": replace(PLAIN, causal=False),
    "both ways, apart": replace(PLAIN, causal=False, k_stride=80, v_stride=112),
    "both ways, window": replace(PLAIN, causal=False, shape=Shape(64, 0.125, 33, 0.0)),
    "both ways, masked, sinks": replace(PLAIN, causal=False, masked=True, sinks=True),
    "masked, window, softcap": replace(PLAIN, masked=True, shape=Shape(64, 0.125, 90, 1.5)),
}


def rounded(x: Array) -> Array:
    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


def attend(
    a: RoundedAttention, q: Array, k: Array, v: Array, mask: Array, sinks: Array, position: int
) -> Array:
    """By the formula: q [tokens, group, D], k and v [C, D], mask [C]."""
    shape, log2_e = a.shape, np.float32(1.4426950408889634)
    factor = np.float32(shape.scale if shape.softcap else shape.scale * log2_e)
    scores = np.einsum("tgd,kd->tgk", rounded(q * factor), rounded(k))
    scores = np.tanh(scores / shape.softcap) * shape.softcap if shape.softcap else scores / log2_e
    distance = np.arange(len(k)) - (position + np.arange(len(q))[:, None])
    seen = mask > 0
    if a.causal:
        seen = seen & (distance <= 0)
    if shape.window:
        seen = seen & (np.abs(distance) < shape.window + (not a.causal))
    weights = np.where(seen[..., None, :], np.exp(scores), 0)
    total = weights.sum(2) + (np.exp(sinks.astype(np.float64)) if a.sinks else 0)
    return np.einsum("tgk,kd->tgd", weights, rounded(v)) / np.where(total == 0, 1, total)[..., None]


def run(a: RoundedAttention, q: Array, k: Array, v: Array, mask: Array, sinks: Array, position: int) -> Array:
    """Items of some tokens each, every access checked."""
    module = Module(host_target(), checked=True)

    def body(code, queries, keys, values, mask, sinks, out, scratch):  # type: ignore[no-untyped-def]
        for first in range(0, len(q), TOKENS):
            rows = [code.at(x, first * stride) for x, stride in ((queries, a.q_stride), (out, a.out_stride))]
            arguments = [rows[0], keys, values, mask, sinks, rows[1], scratch]
            tokens = min(TOKENS, len(q) - first)
            length = position + (first + tokens if a.causal else len(q))
            code.call(bfloat_item(module, a), [*arguments, *map(i64, (position + first, tokens, length))])

    module.function("test", [PTR] * 7, body, export="test")
    emit_controls(module)
    code = LoadedCode(compile_text(str(module.ir), module.target), module.target)
    out, scratch = aligned((len(q), a.out_stride)), aligned((places(a)[-1],))
    scratch[:] = np.nan
    arrays = [q, k, v, mask, sinks, out, scratch]
    checks = CheckedCalls(code)
    checks.begin(arrays)
    code.function("test", *[ctypes.c_void_p] * 7)(*map(address, arrays))
    checks.end(["test"])
    return out


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("position", "count"), [(0, 1), (0, 64), (0, 97), (63, 131), (129, 131)])
def test_rows_of_tokens(name: str, position: int, count: int) -> None:
    """The weights alone are rounded beside: by up to 5e-3 each, less in their mean."""
    a, rng = VARIANTS[name], np.random.default_rng(count)
    dim, kind = a.shape.head_dim, np.float16 if a.half else np.float32
    q = aligned((count, a.q_stride))
    q[:] = 3 * rng.standard_normal(q.shape)
    caches = [aligned((CAPACITY, stride), kind) for stride in (a.k_stride, a.v_stride)]
    for cache in caches:
        cache[:] = rng.standard_normal(cache.shape)
        cache[position + count :] = np.nan  # what nobody has written
    mask, sinks = aligned((CAPACITY + MASK_SLACK,)), aligned((a.heads,))
    mask[:] = rng.random(mask.shape) < 0.5
    mask[:30] = 0  # some see nothing
    sinks[:] = rng.standard_normal(a.heads)
    got = run(a, q, *caches, mask, sinks, position)[:, : a.heads * dim].reshape(count, a.heads, dim)
    k, v = (c[: position + count, :dim] for c in caches)
    valid = mask[: len(k)] if a.masked else np.ones(len(k))
    want = attend(a, q[:, : a.heads * dim].reshape(count, a.heads, dim), k, v, valid, sinks, position)
    assert np.abs(got - want).max() < 6e-3


def test_a_token_has_the_same_bits_in_any_chunk() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (aligned((200, n)) for n in (128, 64, 64))
    for x in (q, k, v):
        x[:] = rng.standard_normal(x.shape)
    whole = run(PLAIN, q, k, v, q, aligned((2,)), 0)
    later = run(PLAIN, q[70:].copy(), k, v, q, aligned((2,)), 70)
    assert np.array_equal(whole[70:], later)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 1), (6, 6), (12, 2)])
def test_items_of_a_step_make_up_all_prompts(heads: int, kv_heads: int) -> None:
    """Sequences of different lengths, so with items of different sizes; in any number of parts the same bits,
    every access checked."""
    strides = {"q_stride": heads * 32, "out_stride": heads * 32}
    a = CachedAttention(heads, kv_heads, 32, 0.2, 0, 0.0, half=False, bf16=True, **strides)
    module, target, rng = Module(host_target(), checked=True), host_target(), np.random.default_rng(heads)
    kernel = cached_attention_kernel(module, a)
    module.function("test", [PTR] * 7, lambda code, *p: code.call(kernel, p) and None, export="test")
    emit_controls(module)
    code = LoadedCode(compile_text(str(module.ir), target), target)
    pasts, lengths = [0, 129, 70], [300, 64, 90]
    spans = [range(past, past + n) for past, n in zip(pasts, lengths, strict=True)]
    tables = {
        Frame.POSITION: np.concatenate([np.arange(s.start, s.stop, dtype=np.int32) for s in spans]),
        Frame.OFFSETS: np.cumsum([0, *lengths], dtype=np.int32),
        Frame.BATCH_ROW: np.arange(3, dtype=np.int32),
        Frame.SCRATCH: aligned((scratch_floats(a, target),)),
    }
    q = aligned((sum(lengths), heads * 32))
    keys, values = (aligned((3, kv_heads, 300, 32)) for _ in "kv")
    for x in (q, keys, values):
        x[:] = rng.standard_normal(x.shape)
    ranges, results = aligned((3, target.row_stride(a.range_floats))), []
    for threads, parts in ((1, 1), (5, 5), (1, 3), (2, 12)):
        out, frame, checks = aligned(q.shape), aligned((Frame.SIZE,), np.int64), CheckedCalls(code)
        frame[[Frame.TOKENS, Frame.SEQUENCES, Frame.PARTS, Frame.CACHE_CAPACITY]] = len(q), 3, parts, 300
        frame[Frame.THREADS] = threads
        frame[list(tables)] = [address(table) for table in tables.values()]
        for part in range(parts):
            frame[Frame.PART] = part
            checks.begin([frame, *tables.values(), q, keys, values, ranges, out])
            run = code.function("test", *[ctypes.c_void_p] * 7)
            run(*map(address, (frame, q, keys, values)), None, address(ranges), address(out))
            checks.end(["test"])
        results.append(out)
    assert all(np.array_equal(results[0], out) for out in results)
    plain = replace(PLAIN, shape=a.group.shape)
    for s, (span, first) in enumerate(zip(spans, tables[Frame.OFFSETS], strict=False)):
        asked, got = (x[first : first + len(span)].reshape(len(span), kv_heads, -1, 32) for x in (q, out))
        for h in range(kv_heads):
            k, v = (x[s, h, : span.stop] for x in (keys, values))
            want = attend(plain, asked[:, h], k, v, np.ones(len(k)), np.zeros(1), span.start)
            assert np.abs(got[:, h] - want).max() < 6e-3


def encoder_attention(causal: bool, window: int) -> Program:
    def build(x: Any, _: Any) -> Any:
        q, k, v = (reshape(x[n], shape=(B, S, heads, 32)) for n, heads in (("q", 4), ("k", 2), ("v", 2)))
        y = attention(q, k, v, x["mask"], scale=0.2, causal=causal, window=window)
        return {"y": reshape(y, shape=(B, S, 128))}

    widths = {"q": 128, "k": 64, "v": 64}
    return Program(
        build, {**{n: (("B", "S", w), f32) for n, w in widths.items()}, "mask": (("B", "S"), i64_type)}
    )


@pytest.mark.parametrize(("causal", "window"), [(False, 0), (False, 20), (True, 0), (True, 20)])
def test_encoders_attend_so_and_company_changes_no_bit(causal: bool, window: int) -> None:
    """Short sequences beside long ones, masks with holes, more rows than an item has; threads too."""
    program, lengths = encoder_attention(causal, window), (300, 5, 15, 16, 17, 64, 130)
    rng = np.random.default_rng(0)
    inputs = {n: rng.standard_normal((len(lengths), 300, w)) for n, w in (("q", 128), ("k", 64), ("v", 64))}
    inputs = {n: (2 * x).astype(np.float32) for n, x in inputs.items()}
    inputs["mask"] = lengths_mask(lengths, 300)
    inputs["mask"][-1, 40:60] = 0
    profiles = [load_profile("exact", ["precision.mixed=int8", f"backend.cpu.threads={n}"]) for n in (1, 2)]
    alone, together = (
        program.compile(profile=profiles[0]),
        program.compile(profile=profiles[1], checked=False),
    )
    got = together(inputs)
    close(got, program.reference(inputs), 2e-2)
    assert np.abs(got["y"] - program.compile(profile=load_profile("exact"))(inputs)["y"]).max() > 1e-5
    for row, length in enumerate(lengths):
        own = {n: x[row : row + 1, :length].copy() for n, x in inputs.items()}
        assert np.array_equal(alone(own)["y"][0], got["y"][row, :length]), length
