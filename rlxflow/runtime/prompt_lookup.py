"""Guessing the next tokens from the text so far: what followed its last few tokens before."""

from __future__ import annotations

from collections.abc import Sequence

NGRAMS = (3, 2)  # so many of the last tokens are looked for, the longest first
MOST = 15  # tokens guessed at once


class PromptLookup:
    """Drafts for speculative decoding without a second model.

    The guess follows the latest place where the last 3 (or 2) tokens stand. It is short at first and grows
    with success: after n right ones it has up to 2n + 1 tokens. Source: prompt lookup decoding
    (A. Saxena 2023; transformers' `prompt_lookup_num_tokens`).
    """

    def __init__(self) -> None:
        self._next: dict[tuple[int, ...], int] = {}  # where the token after an n-gram stands
        self._seen = 0
        self._length = 3

    def draft(self, ids: Sequence[int], most: int) -> list[int]:
        """Up to `most` guessed tokens after `ids`, which holds the ids of the call before and more."""
        for end in range(self._seen, len(ids)):
            for n in NGRAMS:
                if end >= n:
                    self._next[tuple(ids[end - n : end])] = end
        self._seen = len(ids)
        for n in NGRAMS:
            start = self._next.get(tuple(ids[-n:]))
            if start is not None:
                return list(ids[start : start + min(self._length, most)])
        return []

    def learn(self, right: int) -> None:
        """Of the last draft, so many tokens were right."""
        self._length = min(2 * right + 1, MOST)
