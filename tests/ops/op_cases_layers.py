"""Cases of the ops that layers are made of: products, norms, rope, attention, recurrences, blocks."""

from __future__ import annotations

import math
from typing import Any

import formulas as f
import numpy as np
from op_case import BSH, Case, flags, floats, ints, lengths, weight

from rlxflow.dtypes import i32

HOLES = np.array([[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]])  # the second row has no valid key


def products() -> list[Case]:
    heads = "bhmk,bhkn->bhmn"
    return [
        Case("linear", (floats(*BSH), weight("N", "H")), f.linear),
        Case("linear", (floats("H"), weight("N", "H")), f.linear, name="vector"),
        Case("linear", (floats("B", "S", "T", 1), weight(1, 1)), f.linear, name="one"),
        Case(
            "matmul",
            (floats("B", 2, "S", "D"), floats("B", 2, "D", "N")),
            lambda a, b: np.einsum(heads, a, b),
        ),
        Case(
            "matmul",
            (floats("S", "D"), floats("D", "N")),
            lambda a, b: np.einsum("mk,kn->mn", a, b),
            name="plain",
        ),
        Case(
            "matmul",
            (floats("B", 1, "S", "D"), floats(2, "D", "N")),
            lambda a, b: np.einsum("bmk,hkn->bhmn", a[:, 0], b),
            name="broadcast",
        ),
    ]


def norms() -> list[Case]:
    w, b = weight("H"), weight("H")
    return [
        Case("layer_norm", (floats(*BSH), w, b), f.layer_norm, {"eps": 1e-12}),
        Case("layer_norm", (floats("H", low=5, high=7), w), f.layer_norm, {"eps": 1e-5}, name="no-bias"),
        Case(
            "layer_norm",
            (floats("B", "H", low=-1e-4, high=1e-4), w, b),
            f.layer_norm,
            {"eps": 0.1},
            name="large-eps",
        ),
        Case("rms_norm", (floats(*BSH), w), f.rms_norm, {"eps": 1e-6}),
        Case(
            "rms_norm",
            (floats("B", "S", 2, "H"), w),
            f.rms_norm,
            {"eps": 0.5, "unit_offset": True},
            name="offset",
        ),
        Case(
            "mean", (floats(*BSH),), lambda x: np.vectorize(math.fsum, signature="(n)->()")(x)[..., None] / 6
        ),
        Case("softmax", (floats(*BSH, low=-30, high=30),), f.softmax),
        Case("softmax", (floats(*BSH, low=900, high=1000),), f.softmax, {"axis": 1}, name="large"),
        Case("softmax", (floats("B", low=-3, high=3),), f.softmax, {"axis": -1}, name="vector"),
        Case("l2_normalize", (floats(*BSH),), f.l2_normalize),
        Case("l2_normalize", (floats("B", "H", fill=np.zeros),), f.l2_normalize, name="zeros"),
        Case(
            "l2_normalize",
            (floats("B", "H", low=-0.01, high=0.01),),
            f.l2_normalize,
            {"eps": 0.5},
            name="large-eps",
        ),
        Case("mean_pool", (floats(*BSH), ints("B", "S", below=2)), f.mean_pool),
        Case(
            "mean_pool",
            (floats("B", "T", "H"), flags("B", "T", fill=lambda _: HOLES)),
            f.mean_pool,
            name="holes",
        ),
    ]


def rotary() -> list[Case]:
    base = {"rotary_dim": 4, "theta": 10000.0}
    scaled = {**base, "scaling": (("factor", 4.0), ("rope_type", "linear"))}
    at = ints("B", "S", below=40, dtype=i32)
    q, table = floats("B", "S", "N", "D"), floats("B", "S", 2)
    return [
        Case("rope_tables", (at, ints("B", dtype=i32)), f.rope_tables, base),
        Case("rope_tables", (at, ints("B", dtype=i32)), f.rope_tables, scaled, name="linear"),
        Case("rope", (q, table, table), f.rope),
        Case("rope", (q, table, table), f.rope, {"interleaved": True}, name="interleaved"),
        Case("rope", (floats("B", "S", 1, "K"), table, table), f.rope, name="partial"),
        Case("rope", (floats("B", 2, 4), floats("B", 2), floats("B", 2)), f.rope, name="one-token"),
        Case(
            "rope",
            (floats("B", "S", 2, 7), floats("B", "S", 1), floats("B", "S", 1)),
            f.rope,
            {"interleaved": True},
            name="partial-interleaved",
        ),
    ]


def attentions() -> list[Case]:
    def qkv(heads: int, kv: int, queries: str = "S", keys: str = "S", width: str = "D") -> tuple[Any, ...]:
        return floats("B", queries, heads, width), floats("B", keys, kv, width), floats("B", keys, kv, width)

    holes = ints("B", "T", fill=lambda _: HOLES)
    variants: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "plain": (qkv(2, 2), {"scale": 0.5}),
        "gqa": (qkv(6, 2), {"scale": 0.5}),
        "mqa": (qkv(3, 1), {"scale": -0.3}),
        "cross": (qkv(2, 1, "S", "T"), {"scale": 1.0}),
        "odd": (qkv(5, 5, width="H"), {"scale": 0.7}),
        "holes": ((*qkv(4, 2, "S", "T"), holes), {"scale": 0.5}),
        "bool-mask": ((*qkv(2, 2, "T", "T"), flags("B", "T", fill=lambda _: HOLES)), {"scale": 0.5}),
        "bias": ((*qkv(2, 1), None, floats(2, "S", "S")), {"scale": 0.5}),
        "mask-and-bias": ((*qkv(2, 1, "S", "T"), holes, floats(2, "S", "T")), {"scale": 0.5, "softcap": 1.5}),
        "causal": (qkv(2, 2), {"scale": 0.5, "causal": True}),
        "causal-suffix": (qkv(2, 2, "S", "T"), {"scale": 0.5, "causal": True}),
        "causal-fewer-keys": (qkv(2, 2, "T", "S"), {"scale": 0.5, "causal": True}),
        "softcap": (qkv(4, 2), {"scale": 3.0, "softcap": 2.0}),
        "window": (qkv(2, 2), {"scale": 0.5, "window": 1}),
        "causal-window": (qkv(2, 2), {"scale": 0.5, "causal": True, "window": 2}),
        "causal-window-one": (qkv(2, 2), {"scale": 0.5, "causal": True, "window": 1}),
        "all": ((*qkv(4, 2, "S", "T"), holes), {"scale": 2.0, "causal": True, "window": 3, "softcap": 5.0}),
        "steep": (qkv(2, 2), {"scale": 200.0}),
        "sinks": ((*qkv(4, 2, "S", "T"), holes, None, weight(4)), {"scale": 0.5, "softcap": 2.0}),
    }
    cases = [
        Case("attention", operands, f.attention, attrs, name=name)
        for name, (operands, attrs) in variants.items()
    ]

    def cached(heads: int, kv: int, past: tuple[int, int], new: tuple[int, int]) -> tuple[Any, ...]:
        cache = floats("B", kv, "C", "D", role="state")
        return floats("B", "S", heads, "D"), cache, cache, lengths(*past), lengths(*new)

    steps: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "prefill": (cached(2, 2, (0, 0), (5, 3)), {"scale": 0.5}),
        "chunk": (cached(4, 2, (4, 1), (5, 2)), {"scale": 0.5}),
        "decode": (cached(2, 1, (8, 3), (1, 1)), {"scale": 0.5, "softcap": 3.0}),
        "idle-row": (cached(2, 1, (4, 0), (0, 5)), {"scale": 0.5}),
        "window": (cached(2, 2, (4, 2), (5, 5)), {"scale": 0.5, "window": 3}),
        "sinks": ((*cached(4, 2, (4, 1), (5, 2)), weight(4)), {"scale": 0.5}),
        "last": ((floats("B", 4, "D"), *cached(4, 2, (4, 1), (5, 2))[1:]), {"scale": 0.5, "window": 3}),
        "last-idle-row": ((floats("B", 2, "D"), *cached(2, 1, (4, 0), (0, 5))[1:]), {"scale": 0.5}),
    }
    cases += [Case("cached_attention", o, f.cached_attention, a, name=name) for name, (o, a) in steps.items()]
    cache, new = floats("B", "N", "C", "D", role="state"), floats("B", "S", "N", "D")
    cases += [
        Case("cache_append", (cache, new, lengths(0, 0), lengths(5, 3)), f.cache_append, name="first"),
        Case("cache_append", (cache, new, lengths(4, 8), lengths(5, 1)), f.cache_append, name="to-the-end"),
        Case("cache_append", (cache, new, lengths(9, 0), lengths(0, 0)), f.cache_append, name="nothing"),
    ]
    return cases


def recurrences() -> list[Case]:
    def operands(*new: int) -> tuple[Any, ...]:
        heads, gate = floats("B", "S", "N", "D"), floats("B", "S", "N", low=-1.0, high=0.0)
        state = floats("B", "N", "D", "K", role="state")
        return heads, heads, floats("B", "S", "N", "K"), gate, gate, state, lengths(*new)

    return [
        Case("gated_delta_rule", operands(5, 2), f.gated_delta_rule, {"scale": 0.5}),
        Case("gated_delta_rule", operands(0, 1), f.gated_delta_rule, {"scale": 1.0}, name="idle-row"),
    ]


def blocks() -> list[Case]:
    x, r, w, b = floats(*BSH), floats(*BSH), weight("H"), weight("H")
    gate, down = weight("K", "H"), weight("N", "K")
    cases = [
        Case(
            "matmul_bias_act",
            (x, weight("N", "H"), weight("N")),
            f.matmul_bias_act,
            {"activation": name},
            name=name,
        )
        for name in f.ACTIVATIONS
    ]
    return [
        *cases,
        Case(
            "matmul_bias_act",
            (x, weight("N", "H")),
            f.matmul_bias_act,
            {"activation": "gelu"},
            name="no-bias",
        ),
        Case("gated_mlp", (x, gate, gate, down), f.gated_mlp),
        Case(
            "gated_mlp",
            (floats("H"), gate, gate, down),
            f.gated_mlp,
            {"activation": "gelu_tanh"},
            name="geglu",
        ),
        Case(
            "residual_layer_norm",
            (x, r, w, b),
            lambda x, r, *wb, eps: f.layer_norm(x + r, *wb, eps=eps),
            {"eps": 1e-12},
        ),
        Case(
            "residual_layer_norm",
            (x, r, w),
            lambda x, r, *wb, eps: f.layer_norm(x + r, *wb, eps=eps),
            {"eps": 1e-5},
            name="no-bias",
        ),
        Case(
            "residual_rms_norm",
            (x, r, w),
            lambda x, r, w, *, eps: (x + r, f.rms_norm(x + r, w, eps=eps)),
            {"eps": 1e-6},
        ),
        Case(
            "residual_rms_norm",
            (x, r, w),
            lambda x, r, w, *, eps, unit_offset: (
                x + r,
                f.rms_norm(x + r, w, eps=eps, unit_offset=unit_offset),
            ),
            {"eps": 1e-6, "unit_offset": True},
            name="offset",
        ),
    ]
