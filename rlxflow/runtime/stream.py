"""Token ids to text as they come: whole characters only, cut at the first stop string."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlxflow.runtime.tokenizer import Tokenizer

_REPLACEMENT = "\ufffd"
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
# An unfinished character has at most three bytes, so three tokens; one more gives their context.
_UNFINISHED = 4


class TextStream:
    """Decodes ids one at a time; special tokens, and ids without a token, add nothing.

    The pieces that `push` and `finish` return, joined, are `tokenizer.decode(ids)` cut before the first stop
    string in it (the one that starts first, where a push completes several). Each push decodes the last few
    tokens only, so a text takes time linear in its length.
    """

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._window: list[int] = []  # ids that later ones can still change, and one before them
        self._sent = 0  # characters of the window's text that have left it
        self._held = ""  # text that may be the start of a stop string
        self.stopped = False

    def push(self, token_id: int) -> str:
        """The text that is certain after one more id; empty once `stopped`."""
        token = self._tokenizer.id_to_token(token_id)
        if self.stopped or token is None or self._tokenizer.is_special(token_id):
            return ""
        self._window.append(token_id)
        # A run of byte tokens is decoded as one: an invalid byte at its end would change its start.
        if _BYTE.fullmatch(token):
            return ""
        text = self._tokenizer.decode(self._window)
        unfinished = text.endswith(_REPLACEMENT)
        piece = text[self._sent : len(text) - unfinished]
        self._window = self._window[-_UNFINISHED:] if unfinished else self._window[-1:]
        self._sent = len(self._tokenizer.decode(self._window)) - unfinished
        return self._until_stop(piece, last=False)

    def finish(self) -> str:
        """What was held back: unfinished characters (as U+FFFD) and beginnings of stop strings."""
        if self.stopped:
            return ""
        piece = self._tokenizer.decode(self._window)[self._sent :]
        self._window, self._sent = [], 0
        return self._until_stop(piece, last=True)

    def _until_stop(self, piece: str, last: bool) -> str:
        text = self._held + piece
        starts = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if starts:
            self.stopped = True
            self._held = ""
            return text[: min(starts)]
        keep = 0 if last else max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-length:]):
            return length
    return 0
