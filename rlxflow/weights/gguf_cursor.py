"""A forward reader over a GGUF header that never goes past the end of the file."""

from __future__ import annotations

import contextlib
import struct
from typing import NoReturn

from rlxflow.errors import CorruptFile, UnsupportedFile, WeightsError, printable
from rlxflow.weights.file_bytes import FileBytes

MAX_HEADER_BYTES = 256 << 20

_WINDOW_BYTES = 1 << 20
_U64 = struct.Struct("<Q")


class Cursor:
    """Reads forward through a file's header; every read is checked against what is left of the file."""

    def __init__(self, file: FileBytes) -> None:
        self.file = file
        self.at = 0
        self._window = b""
        self._window_at = 0

    def need(self, count: int, what: str) -> None:
        """Raise unless `count` bytes are left in the file and under the header's limit."""
        if count > self.file.size - self.at:
            self.corrupt(
                "RLX-W042",
                f"the file ends inside {what}: {count} bytes wanted, {self.file.size - self.at} left",
                "the download is incomplete or the file is damaged; fetch it again",
            )
        if self.at + count > MAX_HEADER_BYTES:
            self.limit(f"the header with {what}", self.at + count, MAX_HEADER_BYTES)

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        start = self.at - self._window_at
        if start + count > len(self._window):
            self.need(count, what)
            length = min(max(count, _WINDOW_BYTES), self.file.size - self.at)
            self._window = self.file.read(self.at, length).tobytes()
            self._window_at, start = self.at, 0
        self.at += count
        return self._window[start : start + count]

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.take(8, what), "little")

    def count(self, what: str, limit: int, item_bytes: int) -> int:
        """A u64 number of items, each of at least `item_bytes` bytes that are still to come."""
        place = self.at
        number = self.u64(what)
        if number > limit:
            self.limit(what, number, limit, place)
        self.need(number * item_bytes, f"the {number} items that {what} promises")
        return number

    def raw_string(self, what: str, limit: int) -> bytes:
        """A u64 length and that many bytes."""
        return self.take(self.count(what, limit, item_bytes=1), what)

    def strings(self, number: int, what: str, limit: int) -> list[str]:
        """So many strings; those that are not UTF-8 keep their bytes as surrogate escapes.

        Vocabularies are long: what lies whole in the window is cut out of it in one go, and all is decoded
        at once.
        """
        found: list[bytes] = []
        length_at = _U64.unpack_from
        while len(found) < number:
            window, start = self._window, self.at - self._window_at
            end = len(window)
            for _ in range(number - len(found)):
                first = start + 8
                if first > end:
                    break
                stop = first + length_at(window, start)[0]
                if stop > end or stop - first > limit:
                    break
                found.append(window[first:stop])
                start = stop
            self.at = self._window_at + start
            if len(found) < number:
                found.append(self.raw_string(what, limit))  # moves the window, or says what is wrong
        return _decoded(found)

    def name(self, what: str, limit: int, code: str) -> str:
        """A string that must be UTF-8 and not empty (metadata keys, tensor names)."""
        place = self.at
        raw = self.raw_string(what, limit)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        if not text:
            why = "is empty" if not raw else f"is not UTF-8: {printable(raw[:40])}"
            self.corrupt(code, f"{what} {why}", "convert the model again; names are UTF-8 text", place)
        return text

    def corrupt(self, code: str, message: str, hint: str, at: int | None = None) -> NoReturn:
        raise CorruptFile(message, code=code, where=self.place(at), hint=hint)

    def unsupported(self, message: str, hint: str, at: int | None = None) -> NoReturn:
        raise UnsupportedFile(message, code="RLX-W041", where=self.place(at), hint=hint)

    def limit(self, what: str, number: int, limit: int, at: int | None = None) -> NoReturn:
        raise WeightsError(
            f"{what} is {number}, over the limit of {limit}",
            code="RLX-W043",
            where=self.place(at),
            hint="the file is damaged or hostile; fetch it again from a source you trust",
        )

    def place(self, at: int | None) -> str:
        return f"{printable(self.file.path)}:{self.at if at is None else at}"


def _decoded(strings: list[bytes]) -> list[str]:
    with contextlib.suppress(UnicodeDecodeError):
        found = b"\0".join(strings).decode("utf-8").split("\0")
        if len(found) == len(strings):  # or else one of them has such a byte itself
            return found
    return [string.decode("utf-8", "surrogateescape") for string in strings]
