"""fuse-attention-block: both forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fusion.rules.fusing import B, Fires, H, Refuses, S, cache, caches_before, lengths, mask, p, x
from ops import formulas as f

from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention, cached_attention
from rlxflow.ops.cache import cache_append
from rlxflow.ops.elementwise import add, neg
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.rope import rope
from rlxflow.ops.shape import reshape

RULE, ENCODER, DECODER, D = "fuse-attention-block", "attention_block", "cached_attention_block", 4


def project(source: Value, name: str, rows: int, bias: bool) -> Value:
    y = linear(source, p(name, rows, source.shape[-1]))  # type: ignore[arg-type]
    return add(y, p(f"{name}_b", rows)) if bias else y


def placed(y: Value, name: str, norm: bool, rotate: bool, tables: str = "") -> Value:
    y = rms_norm(y, p(f"{name}n", D), eps=1e-6) if norm else y
    return rope(y, p(f"cos{tables}", B, S, 2), p(f"sin{tables}", B, S, 2)) if rotate else y


def block(
    kv: int = 2,
    bias: str = "",
    norm: bool = False,
    rotate: str = "",
    masked: bool = True,
    scores: bool = False,
    k_source: Value | None = None,
    read: Callable[[Value], Value] | None = None,
    **attrs: Any,
) -> Any:
    """An encoder's attention; `bias` and `rotate` name projections that have it, `read` reads the context."""
    heads = {"q": 4, "k": kv, "v": kv}
    sources = {"q": x(), "k": k_source or x(), "v": x()}
    q, k, v = (
        reshape(project(sources[n], n, c * D, n in bias), shape=(B, S, c, D)) for n, c in heads.items()
    )
    q, k = (
        placed(q, "q", norm, "q" in rotate),
        placed(k, "k", norm, "k" in rotate, "2" if "2" in rotate else ""),
    )
    extra = p("scores", 4, S, S) if scores else None
    context = attention(q, k, v, mask() if masked else None, extra, **{"scale": 0.5, **attrs})
    y = project(reshape(context, shape=(B, S, 16)), "o", H, "o" in bias)
    return y if read is None else (y, read(context))


def expected(kv: int = 2, norm: bool = False, rotate: bool = False, **attrs: Any) -> Callable[[Any], Any]:
    def formula(a: Any) -> Any:
        q, k, v = heads_of(a, kv, norm, rotate)
        context = f.attention(q, k, v, a.get("mask"), a.get("scores"), **{"scale": 0.5, **attrs})
        return f.matmul_bias_act(context.reshape(B, S, 16), a["o"], a.get("o_b"))

    return formula


def heads_of(a: Any, kv: int, norm: bool, rotate: bool) -> Any:
    q, k, v = (
        f.matmul_bias_act(a["x"], a[n], a.get(f"{n}_b")).reshape(B, S, c, D)
        for n, c in (("q", 4), ("k", kv), ("v", kv))
    )
    if norm:
        q, k = (f.rms_norm(y, a[f"{n}n"], eps=1e-6) for n, y in (("q", q), ("k", k)))
    if rotate:
        q, k = (f.rope(y, a["cos"], a["sin"]) for y in (q, k))
    return q, k, v


def decoder(
    bias: str = "", norm: bool = False, rotate: bool = True, crossed: bool = False, **attrs: Any
) -> tuple[Value, ...]:
    q, k, v = (
        reshape(project(x(), n, c * D, n in bias), shape=(B, S, c, D))
        for n, c in (("q", 4), ("k", 2), ("v", 2))
    )
    past, new = lengths()
    keys = cache_append(cache("k", 2, D), placed(k, "k", norm, rotate), past, new)
    values = cache_append(cache("v", 2, D), v, past, past if crossed else new)
    context = cached_attention(
        placed(q, "q", norm, rotate), keys, values, past, new, **{"scale": 0.5, **attrs}
    )
    return project(reshape(context, shape=(B, S, 16)), "o", H, "o" in bias), keys, values


def expected_decoder(norm: bool = False, rotate: bool = True, **attrs: Any) -> Callable[[Any], Any]:
    def formula(a: Any) -> Any:
        q, k, v = heads_of(a, 2, norm, rotate)
        before = caches_before(("k", 2, D), ("v", 2, D))
        caches = [
            f.cache_append(c, y, a["past_len"], a["new_len"]) for c, y in zip(before, (k, v), strict=True)
        ]
        wide = (c.astype(float) for c in caches)  # caches round to float32
        context = f.cached_attention(q, *wide, a["past_len"], a["new_len"], **{"scale": 0.5, **attrs})
        return f.matmul_bias_act(context.reshape(B, S, 16), a["o"], a.get("o_b")), *caches

    return formula


FIRES = [
    Fires("plain", lambda: block(masked=False), ENCODER, expected()),
    Fires("mask and biases", lambda: block(kv=4, bias="qkvo"), ENCODER, expected(4)),
    Fires("one key head, output bias only", lambda: block(kv=1, bias="o"), ENCODER, expected(1)),
    Fires("no output bias", lambda: block(bias="qkv"), ENCODER, expected()),
    Fires("causal", lambda: block(masked=False, causal=True), ENCODER, expected(causal=True)),
    Fires(
        "window and softcap", lambda: block(window=1, softcap=3.0), ENCODER, expected(window=1, softcap=3.0)
    ),
    Fires("rope", lambda: block(rotate="qk", causal=True), ENCODER, expected(rotate=True, causal=True)),
    Fires("norm and rope", lambda: block(rotate="qk", norm=True), ENCODER, expected(norm=True, rotate=True)),
    Fires("norm alone", lambda: block(norm=True), ENCODER, expected(norm=True)),
    Fires("bias on the scores", lambda: block(scores=True, masked=False), ENCODER, expected()),
    Fires("mask and bias on the scores", lambda: block(scores=True), ENCODER, expected()),
    Fires("cache, rope", decoder, DECODER, expected_decoder()),
    Fires("cache, no rope", lambda: decoder(rotate=False), DECODER, expected_decoder(rotate=False)),
    Fires("cache, norm and rope", lambda: decoder(norm=True), DECODER, expected_decoder(norm=True)),
    Fires("cache, biases as in Qwen2", lambda: decoder("qkv"), DECODER, expected_decoder()),
    Fires(
        "cache, all biases, window", lambda: decoder("qkvo", window=2), DECODER, expected_decoder(window=2)
    ),
]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Fires) -> None:
    result = case.check()
    assert result.count("linear") == 0


def new_key_read() -> tuple[Value, ...]:
    y, keys, values = decoder()
    return y, keys, values, neg(keys.node.inputs[1])


def second_reader() -> tuple[Value, ...]:
    """A cache is a result of the block, so another attention may read it."""
    y, keys, values = decoder()
    past, new = lengths()
    return y, keys, values, cached_attention(p("other", B, S, 4, D), keys, values, past, new, scale=0.5)


REFUSES = [
    Refuses("above the limit", block, RULE, ENCODER, "batch·seq = 65 > 64 (default)", tokens=65),
    Refuses("unknown size", block, RULE, ENCODER, "batch·seq is not known; the limit is 64", tokens=None),
    Refuses("cache, above the limit", decoder, RULE, DECODER, "batch·seq = 512 > 64", tokens=512),
    Refuses(
        "context read", lambda: block(read=neg), RULE, ENCODER, "result of attention is also read by neg"
    ),
    Refuses(
        "key of another value", lambda: block(k_source=x("z")), RULE, ENCODER, "[operand] linear operand 'x'"
    ),
    Refuses("only q rotated", lambda: block(rotate="q"), RULE, ENCODER, "expected rope, found reshape"),
    Refuses("other tables", lambda: block(rotate="qk2"), RULE, ENCODER, "[operand] rope operand"),
    Refuses("new key read", new_key_read, RULE, DECODER, "result of rope is also read by neg"),
    Refuses(
        "values by another count",
        lambda: decoder(crossed=True),
        RULE,
        DECODER,
        "[operand] cache_append operand",
    ),
]


@pytest.mark.parametrize("case", REFUSES, ids=str)
def test_refuses(case: Refuses) -> None:
    case.check()


def test_a_written_cache_may_have_other_readers() -> None:
    Fires("", second_reader, DECODER).check()


def test_other_rules_get_what_is_refused() -> None:
    result = Fires("", lambda: block(norm=True, rotate="qk"), "shared_input_linear", tokens=512).check()
    assert result.count("qk_norm_rope") == 1 and result.count("linear") == 1
