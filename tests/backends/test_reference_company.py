"""Results do not depend on company: a sequence has the same bits alone, in a batch, and padded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from reference_models import HIDDEN, VOCAB, compiled, decoder, encode, encoder, graph_of, step, tokens

from rlxflow.backends.rows import batch_independent, validity_inputs
from rlxflow.dtypes import Array, i64
from rlxflow.flow.emit import Emit
from rlxflow.flow.flow import ModelFlow
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import add
from rlxflow.ops.leaves import iota
from rlxflow.ops.linear import matmul
from rlxflow.ops.norm import softmax
from rlxflow.ops.shape import broadcast_to, gather, reshape, slice_, transpose

MODELS = {name: compiled(encoder(2, pool)) for name, pool in (("mean", "mean"), ("cls", "cls"))}
DECODER = compiled(decoder(2))
counts = st.lists(st.integers(0, 7), min_size=1, max_size=5)


@pytest.mark.parametrize("pool", MODELS)
@settings(max_examples=25, deadline=None)
@given(counts, st.integers(0, 2), st.randoms(use_true_random=False))
def test_a_sequence_has_its_bits_in_any_company(pool: str, lengths: list[int], extra: int, rng: Any) -> None:
    ids, mask = tokens(lengths, max(lengths) + extra, seed=rng.randrange(1000))
    together = encode(MODELS[pool], ids, mask)
    order = rng.sample(range(len(lengths)), len(lengths))
    shuffled = encode(MODELS[pool], ids[order], mask[order])
    for row, length in enumerate(lengths):
        alone = encode(MODELS[pool], ids[row : row + 1, :length], mask[row : row + 1, :length])
        assert np.array_equal(together["embedding"][row], alone["embedding"][0])
        assert np.array_equal(together["last_hidden_state"][row, :length], alone["last_hidden_state"][0])
        assert not together["last_hidden_state"][row, length:].any()
        assert np.array_equal(shuffled["embedding"][order.index(row)], alone["embedding"][0])


@settings(max_examples=25, deadline=None)
@given(counts, st.integers(0, 3))
def test_a_decoder_row_has_its_bits_in_any_company(lengths: list[int], past: int) -> None:
    history, _ = tokens([past] * len(lengths), seed=5)
    ids, _ = tokens(lengths, max(lengths) + 1, seed=6)
    state = DECODER.new_state(len(lengths), 16)
    step(DECODER, state, history, [0] * len(lengths), [past] * len(lengths))
    together = step(DECODER, state, ids, [past] * len(lengths), lengths)
    for row, length in enumerate(lengths):
        own = DECODER.new_state(1, 11)
        step(DECODER, own, history[row : row + 1], [0], [past])
        alone = step(DECODER, own, ids[row : row + 1, :length], [past], [length])
        assert np.array_equal(together["last_logits"][row], alone["last_logits"][0])
        assert np.array_equal(together["logits"][row, :length], alone["logits"][0])
        assert not together["logits"][row, length:].any()
        for name, array in state.arrays.items():
            used = past + length
            assert np.array_equal(array[row, :, :used], own.arrays[name][0, :, :used])
            assert not array[row, :, used:].any()


def test_repeated_calls_give_the_same_bits() -> None:
    ids, mask = tokens([3, 6])
    first = encode(MODELS["mean"], ids, mask)
    for _ in range(3):
        assert np.array_equal(encode(MODELS["mean"], ids, mask)["embedding"], first["embedding"])


# -- what may run row by row, and which tokens may be left out ---------------------------------------------


def with_stage(function: Any, pool: bool = True, mask: bool = True) -> ModelFlow:
    """Embeddings → a closure → perhaps pooling."""
    flow = (
        ModelFlow("custom").input("input_ids", ("B", "S"), "i64").input("attention_mask", ("B", "S"), "i64")
    )
    flow = flow.embed("words", VOCAB, HIDDEN).custom(function)
    return flow.mean_pool("attention_mask") if pool else flow


def across_the_batch(e: Emit, x: Value | None) -> Value:
    """Sequences attend to each other: row b depends on every row."""
    x = e.need(x)
    swapped = transpose(x, perm=(1, 0, 2))
    mixed = matmul(softmax(matmul(swapped, transpose(swapped, perm=(0, 2, 1)))), swapped)
    return transpose(mixed, perm=(1, 0, 2))


def softmax_over_batch(e: Emit, x: Value | None) -> Value:
    return softmax(e.need(x), axis=0)


def first_row_to_all(e: Emit, x: Value | None) -> Value:
    x = e.need(x)
    return add(x, broadcast_to(slice_(x, axis=0, start=0, stop=1), shape=x.shape))


def table_from_the_batch(e: Emit, x: Value | None) -> Value:
    """A gather whose table depends on the batch."""
    x = e.need(x)
    table = reshape(x, shape=(x.dim(0) * x.dim(1), HIDDEN))
    return gather(table, broadcast_to(iota(size=x.dim(1), dtype=i64), shape=(x.dim(0), x.dim(1))))


@pytest.mark.parametrize(
    "function", [across_the_batch, softmax_over_batch, first_row_to_all, table_from_the_batch]
)
def test_a_stage_that_mixes_rows_runs_on_the_whole_batch(function: Any) -> None:
    flow = with_stage(function)
    assert not batch_independent(graph_of(flow))
    model = compiled(flow)
    ids, mask = tokens([4, 4, 4])
    both = encode(model, ids, mask)["output"]
    alone = encode(model, ids[1:2], mask[1:2])["output"]
    assert not np.allclose(both[1], alone[0], atol=1e-4)  # company matters, as the stage says


def plain_attention(e: Emit, x: Value | None) -> Value:
    """Attention that also sees padded tokens."""
    heads = reshape(e.need(x), shape=(*e.need(x).shape[:2], 2, HIDDEN // 2))
    return reshape(attention(heads, heads, heads, scale=0.4), shape=e.need(x).shape)


def masked_attention(e: Emit, x: Value | None) -> Value:
    heads = reshape(e.need(x), shape=(*e.need(x).shape[:2], 2, HIDDEN // 2))
    y = attention(heads, heads, heads, e.input("attention_mask"), scale=0.4)
    return reshape(y, shape=e.need(x).shape)


def softmax_over_tokens(e: Emit, x: Value | None) -> Value:
    return softmax(e.need(x), axis=1)


def keep(e: Emit, x: Value | None) -> Value | None:
    return x


@pytest.mark.parametrize(
    ("function", "pool", "expected"),
    [
        (keep, True, ("attention_mask",)),
        (keep, False, ()),
        (masked_attention, True, ("attention_mask",)),
        (masked_attention, False, ("attention_mask",)),
        (plain_attention, True, ()),
        (softmax_over_tokens, True, ()),
    ],
)
def test_tokens_are_left_out_only_where_nothing_sees_them(function: Any, pool: bool, expected: Any) -> None:
    flow = with_stage(function, pool)
    assert batch_independent(graph_of(flow))
    assert validity_inputs(graph_of(flow)) == expected


@pytest.mark.parametrize("function", [plain_attention, softmax_over_tokens])
def test_padding_that_a_stage_sees_counts(function: Any) -> None:
    """The graph says what is computed: attention without a mask attends to padding too."""
    model = compiled(with_stage(function))
    ids, mask = tokens([3], 6)
    padded, bare = encode(model, ids, mask)["output"], encode(model, ids[:, :3], mask[:, :3])["output"]
    assert not np.allclose(padded, bare, atol=1e-3)
    other = ids.copy()
    other[0, 5] = 7
    assert not np.allclose(padded, encode(model, other, mask)["output"], atol=1e-3)


def test_a_token_counts_if_any_of_two_masks_calls_it_valid() -> None:
    """Pooling over a part of the tokens that attention sees, as instruction-tuned embedders do."""
    flow = (
        ModelFlow("masks").input("input_ids", ("B", "S"), "i64").input("attention_mask", ("B", "S"), "i64")
        .input("pooling_mask", ("B", "S"), "i64").embed("words", VOCAB, HIDDEN).custom(masked_attention)
        .mean_pool("pooling_mask")
    )  # fmt: skip
    assert set(validity_inputs(graph_of(flow))) == {"attention_mask", "pooling_mask"}
    model = compiled(flow)
    ids, mask = tokens([5], 7)
    pooling = mask.copy()
    pooling[0, :2] = 0

    def run(some: Array) -> Array:
        return model({"input_ids": some, "attention_mask": mask, "pooling_mask": pooling})["output"]

    other = ids.copy()
    other[0, 0] = (ids[0, 0] + 3) % VOCAB
    assert not np.allclose(
        run(ids), run(other), atol=1e-4
    )  # the instruction is attended to, though not pooled
    beyond = ids.copy()
    beyond[0, 6] = 9
    assert np.array_equal(run(ids), run(beyond))


def test_an_input_without_a_batch_is_shared_by_all_rows() -> None:
    def biased(e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        heads = reshape(x, shape=(*x.shape[:2], 2, HIDDEN // 2))
        bias = broadcast_to(e.input("bias"), shape=(2, x.dim(1), x.dim(1)))
        y = attention(heads, heads, heads, e.input("attention_mask"), bias, scale=0.4)
        return reshape(y, shape=x.shape)

    flow = with_stage(biased).input("bias", ("S", "S"))
    assert batch_independent(graph_of(flow)) and validity_inputs(graph_of(flow)) == ("attention_mask",)
    model = compiled(flow)
    ids, mask = tokens([5, 3])
    bias = np.random.default_rng(1).normal(size=(5, 5)).astype(np.float32)
    both = model({"input_ids": ids, "attention_mask": mask, "bias": bias})["output"]
    short = {"input_ids": ids[1:, :3], "attention_mask": mask[1:, :3], "bias": bias[:3, :3]}
    assert np.array_equal(both[1], model(short)["output"][0])
