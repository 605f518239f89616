"""Bytes of a regular file at given offsets, with plain reads.

Files are not mapped: when another program truncates a mapped file, the process that reads it dies; a
plain read is an error that can be caught.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import CorruptFile, WeightsError, printable


class FileBytes:
    """A regular file whose size and time are remembered and compared at every read.

    It is opened for each read, so nothing has to be closed, many parts cost no descriptors, and reads
    from several threads do not meet. Raises `WeightsError` (W001) where there is no readable regular
    file, `CorruptFile` (W047) when the file is not the one it was at the start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = _fingerprint(self._stat())
        self.size = self._mark[0]

    def read(self, offset: int, count: int) -> Array:
        """`count` bytes at `offset` as a new `uint8` array; the caller has checked both against `size`."""
        try:
            with io.FileIO(self.path, "rb") as file:
                data = np.empty(count, np.uint8)
                file.seek(offset)
                full = _fill(file, data)
                unchanged = _fingerprint(os.fstat(file.fileno())) == self._mark
        except OSError as error:
            raise self._cannot_read(error) from error
        if not (full and unchanged):
            raise CorruptFile(
                "the file changed while it was being read",
                code="RLX-W047",
                where=printable(self.path),
                hint="wait until it is written, then load it again",
            )
        return data

    def _stat(self) -> os.stat_result:
        try:
            found = self.path.stat()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise self._cannot_read(error) from error
        if not stat.S_ISREG(found.st_mode):
            raise self._cannot_read("it is not a regular file")
        return found

    def _cannot_read(self, reason: object) -> WeightsError:
        why = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        return WeightsError(
            f"cannot read the file: {printable(why)}",
            code="RLX-W001",
            where=printable(self.path),
            hint="check the path and its permissions",
        )


def _fingerprint(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino


def _fill(file: io.FileIO, data: Array) -> bool:
    """Read until `data` is full; False when the file ends before that."""
    view = data.data
    while len(view):
        count = file.readinto(view)
        if not count:
            return False
        view = view[count:]
    return True
