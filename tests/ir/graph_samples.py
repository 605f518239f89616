"""Graphs for the tests of `rlxflow.ir`: hand-written ones, and random ones drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hypothesis import strategies as st

import rlxflow.ops  # noqa: F401  (fills the op table)
from rlxflow.dtypes import bool_, f32, i32, i64, q4_k
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import dim
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Value
from rlxflow.ops.activation import gelu, relu, silu
from rlxflow.ops.attention import attention, cached_attention
from rlxflow.ops.blocks import residual_rms_norm
from rlxflow.ops.cache import cache_append
from rlxflow.ops.elementwise import add, mul, neg, sub, where
from rlxflow.ops.leaves import constant, full, input_, iota, param, state
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm, softmax
from rlxflow.ops.rope import rope, rope_tables
from rlxflow.ops.shape import concat, gather, reshape, select_token, slice_, transpose

WEIRD = 'a "quoted" \\ back\\slash\n{x=(1 2)} : f32[2] @ "p" %1 <B> é 雪 \U0001f600 \x00 \x85 \u2028 \ud800'


def finish(
    make: Callable[[], tuple[Mapping[str, Value], Mapping[str, Value], tuple[State, ...]]],
    name: str = "sample",
) -> Graph:
    """The graph that `make` emits."""
    builder = GraphBuilder()
    with emitting(builder):
        inputs, outputs, states = make()
    return builder.finish(name, inputs, outputs, states)


def encoder() -> Graph:
    def make() -> tuple[Mapping[str, Value], Mapping[str, Value], tuple[State, ...]]:
        ids = input_(key="ids", dtype=i64, shape=("B", "S"))
        mask = input_(key="mask", dtype=i64, shape=("B", "S"))
        x = gather(param(key="embed", dtype=f32, shape=(50, 8)), ids)
        x = add(x, gather(param(key="positions", dtype=f32, shape=(16, 8)), iota(size="S", dtype=i64)))
        x = layer_norm(x, param(key="w", dtype=f32, shape=(8,)), eps=1e-12)
        heads = reshape(linear(x, param(key="q", dtype=q4_k, shape=(8, 8))), shape=("B", "S", 2, 4))
        y = attention(heads, heads, heads, mask, scale=0.5, softcap=30.0)
        y = softmax(gelu(reshape(y, shape=(dim("B"), "S", 8))), axis=1)
        flags = constant(data=bytes([0, 1, 1]), dtype=bool_, shape=(3, 1, 1, 1))
        y = where(flags, y, full(value=float("inf"), dtype=f32, shape=()))
        y = concat(y, neg(y), axis=-1)
        return {"ids": ids, "mask": mask}, {"hidden": y, "first": slice_(y, axis=2, start=0, stop=1)}, ()

    return finish(make, "encoder")


def decoder() -> Graph:
    """Two outputs per node, a cache, absent operands in the middle, nested tuples with None, -inf."""

    def make() -> tuple[Mapping[str, Value], Mapping[str, Value], tuple[State, ...]]:
        x = input_(key="x", dtype=f32, shape=("B", "S", 2, 4))
        past = input_(key="past_len", dtype=i32, shape=("B",))
        new = input_(key="new_len", dtype=i32, shape=("B",))
        positions = add(reshape(past, shape=("B", 1)), iota(size="S", dtype=i32))
        scaling = (("attention_factor", None), ("factor", 2.0), ("rope_type", "linear"))
        cos, sin = rope_tables(positions, add(past, new), rotary_dim=4, theta=1e4, scaling=scaling)
        q = rope(x, cos, sin)
        before = state(key="k", dtype=f32, shape=("B", 2, "C", 4))
        after = cache_append(before, q, past, new)
        y = cached_attention(q, after, after, past, new, scale=0.5, window=7)
        bias = full(value=float("-inf"), dtype=f32, shape=(2, "S", "S"))
        z = attention(q, x, y, None, bias, scale=-0.0, causal=True)
        total, normed = residual_rms_norm(z, y, param(key="n", dtype=f32, shape=(4,)), eps=1e-6)
        last = select_token(normed, sub(new, full(value=1.0, dtype=i32, shape=())))
        inputs = {"x": x, "past_len": past, "new_len": new}
        return inputs, {"total": total, "last": last}, (State("k", before, after),)

    return finish(make, "decoder")


def weird() -> Graph:
    """Names, keys and stage paths with every character that the text form must escape."""
    builder = GraphBuilder()
    with emitting(builder):
        x = input_(key=WEIRD, dtype=f32, shape=("B", dim("2*B*S+1"), 3))
        with builder.scope('path "a} : b" @ "c"', WEIRD):
            y = mul(x, param(key="} : f32[3] @ ", dtype=f32, shape=(3,)))
            y = add(y, constant(data=bytes(range(12)), dtype=f32, shape=(3,)))
        with builder.scope("second"):
            z = neg(y)
    return builder.finish(WEIRD, {WEIRD: x}, {WEIRD: y, "": z})


SAMPLES = {"encoder": encoder, "decoder": decoder, "weird": weird}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A random graph over values of one shape [B, S, 4], with random keys, paths and attributes."""
    builder = GraphBuilder()
    keys = st.text(min_size=1, max_size=6)
    number = st.floats(min_value=1e-9, allow_nan=False, allow_infinity=True)
    with emitting(builder):
        key = draw(keys)
        x = input_(key=key, dtype=f32, shape=("B", "S", 4))
        values = [x]

        def pick() -> Value:
            return values[draw(st.integers(0, len(values) - 1))]

        for _ in range(draw(st.integers(1, 12))):
            with builder.scope(*draw(st.lists(st.text(max_size=5), max_size=2))):
                kind = draw(st.integers(0, 8))
                if kind == 0:
                    values.append(add(pick(), pick()))
                elif kind == 1:
                    values.append(sub(pick(), pick()))
                elif kind == 2:
                    dtype = draw(st.sampled_from([f32, q4_k]))
                    weight = param(key=f"{dtype}{draw(keys)}", dtype=dtype, shape=(4, 4))
                    values.append(linear(pick(), weight))
                elif kind == 3:
                    values.append(draw(st.sampled_from([gelu, relu, silu, neg]))(pick()))
                elif kind == 4:
                    values.append(softmax(pick(), axis=draw(st.integers(-3, 2))))
                elif kind == 5:
                    weight = param(key=f"v{draw(keys)}", dtype=f32, shape=(4,))
                    values.extend(residual_rms_norm(pick(), pick(), weight, eps=draw(number)))
                elif kind == 6:
                    values.append(add(pick(), full(value=draw(number), dtype=f32, shape=())))
                elif kind == 7:
                    data = draw(st.binary(min_size=16, max_size=16))
                    values.append(mul(pick(), constant(data=data, dtype=f32, shape=(4,))))
                else:
                    values.append(transpose(silu(transpose(pick(), perm=(0, 2, 1))), perm=(0, 2, 1)))
    names = draw(st.lists(st.text(max_size=5), min_size=1, max_size=3, unique=True))
    return builder.finish(draw(st.text(max_size=5)), {key: x}, {name: pick() for name in names})
