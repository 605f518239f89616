"""Compaction: which tokens are valid, where they come from, and how they are shared out."""

from __future__ import annotations

import numpy as np
import pytest
from compare import lengths_mask

from rlxflow.backends.cpu.ragged import compact, cut, mask_rows, sizes_of, uneven
from rlxflow.backends.rows import token_spans
from rlxflow.errors import InputError
from rlxflow.ir.dims import dim


@pytest.mark.parametrize("seed", range(20))
def test_the_same_tokens_as_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, tokens, count = int(rng.integers(0, 5)), int(rng.integers(0, 9)), int(rng.integers(0, 3))
    masks = {f"m{i}": (rng.random((batch, tokens)) < 0.4).astype(np.int64) * 3 for i in range(count)}
    ragged = compact(list(masks.values()), batch, tokens)
    spans = token_spans(tuple(masks), masks, batch, tokens)
    want = [b * tokens + t for b, span in enumerate(spans) for t in range(tokens)[span]]
    assert ragged.source.tolist() == want
    assert ragged.position.tolist() == [t - span.start for span in spans for t in range(tokens)[span]]
    kept = [b for b, span in enumerate(spans) if span.stop > span.start]
    assert ragged.batch_row.tolist() == kept
    assert ragged.sequence.tolist() == [kept.index(i // tokens) for i in want]
    assert ragged.offsets.tolist() == [0, *np.cumsum([spans[b].stop - spans[b].start for b in kept])]
    assert ragged.padded == (len(want) < batch * tokens or len(kept) < batch)
    assert ragged.longest == max((s.stop - s.start for s in spans), default=0)
    for mask in masks.values():
        rows = mask_rows(mask, ragged)
        assert rows[: len(want)].tolist() == [float(v != 0) for v in mask.ravel()[want]]
        assert not rows[len(want) :].any()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_chunks_hold_whole_sequences_and_all_of_them(threads: int) -> None:
    rng = np.random.default_rng(threads)
    for _ in range(50):
        lengths = tuple(int(n) for n in rng.integers(1, 200, rng.integers(1, 40)))
        ragged = compact([lengths_mask(lengths, 200)], len(lengths), 200)
        chunks = cut(ragged, threads, 256)
        assert chunks[0] == 0 and chunks[-1] == len(lengths) and (np.diff(chunks) > 0).all()
        assert np.diff(ragged.offsets[chunks]).max() <= 256 + 2 * 200
        if uneven(ragged, chunks, threads):
            assert threads > 1


def test_row_numbers_fit_their_type() -> None:
    assert sizes_of({"B": 2, "S": 2**30 - 1}, (dim("S"),)) == (2, (2**30 - 1,))
    with pytest.raises(InputError) as caught:
        sizes_of({"B": 2**16, "S": 2**15}, (dim("S"),))
    assert caught.value.code == "RLX-R015"


def test_equal_sequences_are_shared_evenly() -> None:
    for batch, length in ((8, 128), (2, 16), (32, 128), (4, 300)):
        ragged = compact([], batch, length)
        chunks = cut(ragged, 2, 256)
        assert not uneven(ragged, chunks, 2) and len(chunks) % 2
