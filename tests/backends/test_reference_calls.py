# ruff: noqa: E501  (one case per line or two)
"""Calls of a compiled program: what it refuses, what it takes as it is, and edges of sizes and values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from reference_models import HIDDEN, POSITIONS, VOCAB, compiled, decoder, encode, encoder, step, tokens

from rlxflow.backends.base import CacheState
from rlxflow.backends.find import find_backend
from rlxflow.backends.reference.backend import ReferenceBackend
from rlxflow.backends.reference.executable import ReferenceExecutable
from rlxflow.dtypes import Array
from rlxflow.errors import BackendError, InputError, PluginError, RlxError
from rlxflow.flow.emit import Emit
from rlxflow.flow.flow import ModelFlow
from rlxflow.ir.values import Value
from rlxflow.ops.shape import slice_


@cache
def small_encoder() -> ReferenceExecutable:
    return compiled(encoder(1))


@cache
def small_decoder() -> ReferenceExecutable:
    return compiled(decoder(1))


def inputs(**changes: Any) -> dict[str, Any]:
    """Inputs of the encoder; None drops one."""
    ids, mask = tokens([3, 5])
    given = {"input_ids": ids, "attention_mask": mask, **changes}
    return {name: value for name, value in given.items() if value is not None}


def lengths(past: Any = (0, 0), new: Any = (3, 5), **changes: Any) -> dict[str, Any]:
    """Inputs of the decoder."""
    given = {"past_len": np.asarray(past, np.int32), "new_len": np.asarray(new, np.int32), **changes}
    return {"input_ids": tokens([3, 5])[0], **given}


def ids_with(value: int, row: int = 0) -> Array:
    ids, _ = tokens([3, 5])
    ids[row, 1] = value
    return ids


IDS, MASK = tokens([3, 5])
REFUSED: dict[str, tuple[Any, str, str, str]] = {
    "R1-more-tokens-than-positions": (
        inputs(**dict(zip(("input_ids", "attention_mask"), tokens([POSITIONS + 1, 2]), strict=True))),
        "RLX-R001", f"id {POSITIONS} is outside a table of {POSITIONS} rows", f"from 0 to {POSITIONS - 1}"),
    "R1-a-list": (inputs(input_ids=IDS.tolist()), "RLX-R003", "'input_ids' is list", "an array i64[B,S]"),
    "R1-ragged-lists": (inputs(input_ids=[[1], [2, 3]]), "RLX-R003", "'input_ids' is list", "an array i64[B,S]"),
    "R2-negative-id": (inputs(input_ids=ids_with(-1)), "RLX-R001", "id -1 is outside a table of 30 rows", "0 to 29"),
    "R2-id-is-vocab-size": (inputs(input_ids=ids_with(VOCAB)), "RLX-R001", "id 30 is outside", "0 to 29"),
    "R2-huge-id": (inputs(input_ids=ids_with(2**62, 1)), "RLX-R001", "is outside a table", "0 to 29"),
    "R2-float-ids": (inputs(input_ids=IDS.astype(np.float64)), "RLX-R003", "float64[2, 5]", "i64[B,S]"),
    "R2-narrow-ids": (inputs(input_ids=IDS.astype(np.int32)), "RLX-R003", "int32[2, 5]", "i64[B,S]"),
    "R2-bool-ids": (inputs(input_ids=IDS > 0), "RLX-R003", "bool[2, 5]", "i64[B,S]"),
    "R2-text": (inputs(input_ids=np.array([["a"]])), "RLX-R003", "<U1[1, 1]", "i64[B,S]"),
    "R2-objects": (inputs(input_ids=np.array([[None]])), "RLX-R003", "object[1, 1]", "i64[B,S]"),
    "R2-rank-1": (inputs(input_ids=IDS[0]), "RLX-R003", "int64[5]", "i64[B,S]"),
    "R2-rank-0": (inputs(input_ids=np.int64(3)), "RLX-R003", "'input_ids' is int64", "i64[B,S]"),
    "R2-rank-0-array": (inputs(input_ids=np.array(3)), "RLX-R003", "int64[]", "i64[B,S]"),
    "R2-rank-3": (inputs(input_ids=IDS[None]), "RLX-R003", "int64[1, 2, 5]", "i64[B,S]"),
    "R3-mask-too-short": (inputs(attention_mask=MASK[:, :4]), "RLX-R004", "S = 4 in [B,S], but 5", "agree"),
    "R3-mask-of-another-batch": (inputs(attention_mask=MASK[:1]), "RLX-R004", "B = 1 in [B,S], but 2", "agree"),
    "R3-float-mask": (inputs(attention_mask=MASK * 1.0), "RLX-R003", "float64[2, 5]", "i64[B,S]"),
    "R6-batch-twice": (inputs(attention_mask=MASK[[0, 1, 1]]), "RLX-R004", "B = 3 in [B,S], but 2", "agree"),
    "R6-missing": (inputs(attention_mask=None), "RLX-R002", "'attention_mask' is missing", "pass attention_mask=i64[B,S]"),
    "R6-unknown": (inputs(token_type_ids=IDS), "RLX-R006", "no input 'token_type_ids'", "inputs: input_ids, attention_mask"),
    "R6-without-names": ([IDS, MASK], "RLX-R006", "given by name, not as list", "pass {'input_ids': …, 'attention_mask': …}"),
    "R6-one-array": (IDS, "RLX-R006", "given by name, not as ndarray", "'input_ids'"),
    "R6-nothing": (None, "RLX-R006", "given by name, not as NoneType", "'input_ids'"),
    "R6-misspelt": (inputs(attention_masks=MASK), "RLX-R006", "no input 'attention_masks'", "'attention_mask'?"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    given, code, message, hint = REFUSED[case]
    with pytest.raises(InputError) as caught:
        small_encoder()(given)
    assert caught.value.code == code and message in caught.value.message and hint in caught.value.hint


LENGTHS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "R1-more-than-the-cache-holds": (
        lengths((6, 0)),
        "RLX-R009",
        "9 positions do not fit a cache of 8",
        "grow",
    ),
    "R1-new-len-over-width": (lengths(new=(3, 6)), "RLX-R008", "new_len is [3, 6], of 5 tokens", "0 to 5"),
    "R1-negative-new-len": (lengths(new=(-1, 5)), "RLX-R008", "new_len is [-1, 5]", "0 to 5"),
    "R1-negative-past-len": (lengths((0, -2)), "RLX-R008", "past_len [-2]", "0 or more"),
    "R1-huge-past-len": (lengths((2**31 - 1, 0)), "RLX-R009", "positions do not fit a cache of 8", "grow"),
    "R2-wide-lengths": (lengths(past_len=np.zeros(2, np.int64)), "RLX-R003", "int64[2]", "i32[B]"),
    "R6-lengths-of-another-batch": (lengths(past=(0, 0, 0)), "RLX-R004", "B = 3 in [B], but 2", "agree"),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_refused_lengths(case: str) -> None:
    given, code, message, hint = LENGTHS[case]
    model = small_decoder()
    with pytest.raises(InputError) as caught:
        model(given, model.new_state(2, 8))
    assert caught.value.code == code and message in caught.value.message and hint in caught.value.hint


def test_R6_states_that_do_not_belong() -> None:
    model = small_decoder()
    with pytest.raises(BackendError, match="needs a cache state") as needed:
        model(lengths())
    assert needed.value.code == "RLX-B002" and "new_state" in needed.value.hint
    good = model.new_state(2, 8)
    wrong = {
        "batch": model.new_state(3, 8),
        "another model": compiled(decoder(1, head_dim=8, num_kv_heads=1)).new_state(2, 8),
        "missing": CacheState({}, good.lengths, 8),
        "dtype": CacheState({k: a.astype(np.float16) for k, a in good.arrays.items()}, good.lengths, 8),
        "capacity": CacheState(good.arrays, good.lengths, 9),
    }
    for state in wrong.values():
        with pytest.raises(InputError, match="cache 'l") as caught:
            model(lengths(), state)
        assert caught.value.code == "RLX-R014" and "new_state" in caught.value.hint


def test_R6_unknown_outputs() -> None:
    model = small_encoder()
    with pytest.raises(InputError, match="no output 'embeding'") as caught:
        model(inputs(), outputs=("embeding",))
    assert caught.value.code == "RLX-R005" and caught.value.hint == "did you mean 'embedding'?"
    assert list(model(inputs(), outputs=("embedding",))) == ["embedding"]


def test_R6_sizes_made_of_names() -> None:
    def first(e: Emit, x: Value | None) -> Value:
        return slice_(e.need(x), axis=1, start=0, stop=1)

    flow = (
        ModelFlow("sums").input("x", ("B", "S")).input("y", ("B", "S+1")).input("z", ("2*B", 3)).custom(first)
    )
    model = compiled(flow)

    def call(width: int, rows: int, columns: int = 3) -> dict[str, Array]:
        x, y, z = np.ones((2, 4)), np.ones((2, width)), np.ones((rows, columns))
        return model({k: a.astype(np.float32) for k, a in {"x": x, "y": y, "z": z}.items()})

    assert call(5, 4)["output"].shape == (2, 1)
    for args, message in {
        (4, 4): "1+S = 4",
        (5, 2): "2*B = 2",
        (5, 4, 2): "'z' has 2 where [2*B,3] has 3",
    }.items():
        with pytest.raises(InputError) as caught:
            call(*args)
        assert caught.value.code == "RLX-R004" and message in caught.value.message
        assert caught.value.where in ("y: f32[B,1+S]", "z: f32[2*B,3]")


# -- R1: small sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "width"), [(0, 0), (0, 4), (3, 0)])
def test_R1_nothing_in_nothing_out(batch: int, width: int) -> None:
    empty = np.zeros((batch, width), np.int64)
    results = encode(small_encoder(), empty, empty)
    assert results["last_hidden_state"].shape == (batch, width, HIDDEN)
    assert results["embedding"].shape == (batch, HIDDEN) and not results["embedding"].any()
    model = small_decoder()
    none = np.zeros(batch, np.int32)
    logits = step(model, model.new_state(batch, 4), empty, none, none)
    assert logits["logits"].shape == (batch, width, VOCAB) and logits["last_logits"].shape == (batch, VOCAB)


def test_R1_one_token() -> None:
    ids, mask = tokens([1])
    results = encode(small_encoder(), ids, mask)
    assert np.linalg.norm(results["embedding"]) == pytest.approx(1, abs=1e-6)
    pooled = results["last_hidden_state"][0, 0]
    np.testing.assert_allclose(results["embedding"][0], pooled / np.linalg.norm(pooled), atol=1e-6)


def test_R1_the_longest_sequence_that_fits() -> None:
    results = encode(small_encoder(), *tokens([POSITIONS]))
    assert np.isfinite(results["embedding"]).all()
    model = small_decoder()
    state = model.new_state(1, 5)
    full = step(model, state, tokens([5])[0], [0], [5])
    assert np.isfinite(full["logits"]).all()
    with pytest.raises(InputError) as caught:
        step(model, state, tokens([1])[0], [5], [1])
    assert caught.value.code == "RLX-R009"


# -- R3: masks ---------------------------------------------------------------------------------------


def test_R3_a_row_without_valid_tokens_is_zero_and_harms_nobody() -> None:
    ids, mask = tokens([4, 4])
    mask[1] = 0
    results = encode(small_encoder(), ids, mask)
    assert not results["embedding"][1].any() and not results["last_hidden_state"][1].any()
    alone = encode(small_encoder(), ids[:1], mask[:1])
    assert np.array_equal(results["embedding"][0], alone["embedding"][0])


def test_R3_any_nonzero_mask_value_is_valid() -> None:
    ids, mask = tokens([3, 5])
    for scale in (2, -1, 255):
        assert np.array_equal(
            encode(small_encoder(), ids, mask * scale)["embedding"],
            encode(small_encoder(), ids, mask)["embedding"],
        )


def test_R3_holes_are_ignored_but_keep_their_place() -> None:
    ids, mask = tokens([5])
    mask[0, 2] = 0
    other = ids.copy()
    other[0, 2] = (ids[0, 2] + 5) % VOCAB
    a, b = encode(small_encoder(), ids, mask), encode(small_encoder(), other, mask)
    kept = [0, 1, 3, 4]
    assert np.array_equal(a["embedding"], b["embedding"])
    assert np.array_equal(a["last_hidden_state"][0, kept], b["last_hidden_state"][0, kept])
    closed = encode(small_encoder(), ids[:, kept], mask[:, kept])
    assert not np.allclose(a["embedding"], closed["embedding"], atol=1e-3)


def test_R3_padding_on_the_left_or_the_right_gives_the_same_bits() -> None:
    ids, mask = tokens([4], 7)
    right = encode(small_encoder(), ids, mask)
    left = encode(small_encoder(), np.roll(ids, 3, 1), np.roll(mask, 3, 1))
    assert np.array_equal(left["embedding"], right["embedding"])
    assert np.array_equal(left["last_hidden_state"][:, 3:], right["last_hidden_state"][:, :4])
    assert not left["last_hidden_state"][:, :3].any() and not right["last_hidden_state"][:, 4:].any()


# -- R7, R8: memory layouts and small numbers ----------------------------------------------------------


def wider(array: Array) -> Array:
    out = np.zeros((array.shape[0] * 2, array.shape[1] * 3), array.dtype)
    out[::2, ::3] = array
    return out[::2, ::3]


def frozen(array: Array) -> Array:
    out = array.copy()
    out.setflags(write=False)
    return out


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "R7-fortran": np.asfortranarray,
    "R7-strided": wider,
    "R7-reversed": lambda a: a[::-1].copy()[::-1],
    "R7-read-only": frozen,
    "R7-big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "R7-little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "R7-unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "R7-broadcast": lambda a: np.broadcast_to(a, a.shape),
    "R7-subclass": np.ma.masked_array,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    ids, mask = tokens([3, 5, 1])
    before = ids.copy(), mask.copy()
    want = encode(small_encoder(), ids, mask)
    got = encode(small_encoder(), LAYOUTS[layout](ids), LAYOUTS[layout](mask))
    for name in want:
        assert np.array_equal(got[name], want[name]) and type(got[name]) is np.ndarray
    assert np.array_equal(ids, before[0]) and np.array_equal(mask, before[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_float_inputs(layout: str) -> None:
    x = np.random.default_rng(0).normal(size=(3, HIDDEN)).astype(np.float32)
    model = compiled(ModelFlow("float").input("x", ("B", HIDDEN)).linear("w", 5, "b").l2_normalize())
    assert np.array_equal(model({"x": LAYOUTS[layout](x)})["output"], model({"x": x})["output"])


def test_R7_results_own_their_memory() -> None:
    x = np.ones((2, 4), np.float32)
    model = compiled(
        ModelFlow("same").input("x", ("B", 4)).residual_save().output("y").residual_add().output("z")
    )
    result = model({"x": x})["y"]
    result[:] = 7
    assert (x == 1).all() and result.flags.owndata and result.flags.writeable


@pytest.mark.parametrize("tiny", [1e-40, 1e-45, -1e-42, 0.0])
def test_R8_denormals(tiny: float) -> None:
    x = np.full((2, 3, HIDDEN), tiny, np.float32)
    flow = ModelFlow("tiny").input("x", ("B", "S", HIDDEN)).rms_norm("norm.weight", 1e-6)
    results = compiled(flow.layer_norm("norm2.weight", None, 1e-12))({"x": x})
    assert np.isfinite(results["output"]).all()


def test_infinite_activations_pass_without_a_warning() -> None:
    x = np.full((1, 1, HIDDEN), 3e38, np.float32)
    result = compiled(ModelFlow("big").input("x", ("B", "S", HIDDEN)).rms_norm("norm.weight", 1e-6))({"x": x})
    assert result["output"].shape == x.shape


# -- backends by name ----------------------------------------------------------------------------------


def test_backends_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(find_backend("reference"), ReferenceBackend)
    with pytest.raises(BackendError, match="no backend 'referense'") as caught:
        find_backend("referense")
    assert caught.value.code == "RLX-B001" and caught.value.hint == "did you mean 'reference'?"
    from importlib.metadata import EntryPoint

    import rlxflow.backends.find as find

    points = [EntryPoint("mine", "no_such_module:Backend", "rlxflow.backends")]
    monkeypatch.setattr(find, "entry_points", lambda group: points)
    with pytest.raises(PluginError, match="'mine' does not load") as broken:
        find_backend("mine")
    assert broken.value.code == "RLX-X002" and broken.value.where == "no_such_module:Backend"


def test_weights_of_another_shape_than_built_are_refused() -> None:
    from reference_models import graph_of

    graph = graph_of(encoder(1))

    class Short:
        def read(self, key: str) -> Array:
            return np.zeros((1, 1), np.float32)

    with pytest.raises(RlxError, match=r"is read as \[1, 1\], not \[30, 12\]") as caught:
        ReferenceBackend().compile(graph, Short(), None)  # type: ignore[arg-type]
    assert caught.value.code == "RLX-B004"
