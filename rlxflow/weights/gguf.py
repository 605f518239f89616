"""GGUF files as a weight source: one file, or all parts of a split one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlxflow.dtypes import Array, to_numpy
from rlxflow.errors import CorruptFile, WeightsError, printable
from rlxflow.weights.file_bytes import FileBytes
from rlxflow.weights.gguf_reader import GgufHeader, read_header
from rlxflow.weights.gguf_types import check_read
from rlxflow.weights.source import TensorInfo, missing

_PART_NAME = re.compile(r"(?P<stem>.*)-(?P<index>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)
_MOST = 1_000_000  # parts, or tensors in all parts


class GgufFile:
    """A GGUF model (versions 2 and 3, little endian) as a `WeightSource` under *GGUF* tensor names.

    `metadata` maps keys to plain Python values: int, float, bool, str, or a list of one of these. float32
    values are the shortest decimal that rounds to the same float32. A string that is not UTF-8 keeps its
    bytes: `text.encode("utf-8", "surrogateescape")` gives them back. Shapes are row-major (`[out, in]`).

    `path` may be the first part of a split model (`-00001-of-0000N.gguf`); the other parts are looked for
    beside it and must belong to it. Only headers are read here; `read` reads one tensor's bytes.

    Raises `WeightsError` (W001) for a file that cannot be opened, `CorruptFile`, `UnsupportedFile`, and
    `WeightsError` for numbers over their limit (`gguf_reader`), each naming the byte offset.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        parts = _open_parts(self.path)
        self.metadata: dict[str, Any] = parts[0][1].metadata
        self._infos: dict[str, TensorInfo] = {}
        self._places: dict[str, tuple[FileBytes, int]] = {}
        for file, header in parts:
            self._infos |= header.tensors
            self._places |= {name: (file, at) for name, at in header.offsets.items()}

    def keys(self) -> Iterable[str]:
        """GGUF tensor names, in file order."""
        return self._infos.keys()

    def info(self, key: str) -> TensorInfo:
        """The entry of one tensor, also of a type that cannot be read."""
        if key not in self._infos:
            raise missing(key, self._infos, printable(self.path))
        return self._infos[key]

    def read(self, key: str) -> Array:
        """One tensor; packed types as `uint8 [*shape[:-1], row_bytes]`. Raises as `check_read`, and
        `CorruptFile` (W047) when the file is no longer the one that was opened."""
        info = self.info(key)
        check_read(info)
        file, offset = self._places[key]
        data = file.read(offset, info.nbytes)
        if info.dtype.packed:
            return data.reshape(*info.shape[:-1], -1)
        return data.view(to_numpy(info.dtype)).reshape(info.shape)


def _open_parts(path: Path) -> list[tuple[FileBytes, GgufHeader]]:
    """The file, or all parts of a split model in order, with their headers."""
    file = FileBytes(path)
    header = read_header(file)
    count, index = _split_value(header, "split.count", path, 1), _split_value(header, "split.no", path, 0)
    named = _PART_NAME.fullmatch(path.name)
    if count <= 1:
        if named and int(named["count"]) > 1:
            raise _split_error(path, "the name says that this is one of several parts, the metadata does not")
        return [(file, header)]
    if not named or (int(named["index"]), int(named["count"])) != (index + 1, count):
        message = f"the metadata says part {index + 1} of {count}, the name does not"
        raise _split_error(path, message, f"name the parts MODEL-00001-of-{count:05}.gguf and so on")
    if index != 0:
        first = f"{named['stem']}-00001-of-{count:05}.gguf"
        raise _split_error(
            path, f"this is part {index + 1} of {count}", f"give the first part, {printable(first)}"
        )
    parts = [(file, header)]
    for number in range(2, count + 1):
        part_path = path.with_name(f"{named['stem']}-{number:05}-of-{count:05}.gguf")
        if not part_path.exists():
            raise _split_error(part_path, f"part {number} of {count} is missing")
        part = FileBytes(part_path)
        parts.append((part, read_header(part)))
    _check_parts(parts)
    return parts


def _check_parts(parts: list[tuple[FileBytes, GgufHeader]]) -> None:
    """Raise unless the parts agree on what they are parts of and share no tensor."""
    first, first_header = parts[0]
    total = _split_value(first_header, "split.tensors.count", first.path, -1)
    names: set[str] = set()
    for number, (file, header) in enumerate(parts):
        if _split_value(header, "split.no", file.path, -1) != number:
            raise _split_error(file.path, f"its metadata does not say that it is part {number + 1}")
        for key, value in header.metadata.items():
            if key != "split.no" and value != first_header.metadata.get(key, value):
                message = f"{printable(key)!r} differs from the first part: parts of two models"
                raise _split_error(file.path, message)
        if header.metadata.get("split.count") != first_header.metadata["split.count"]:
            raise _split_error(file.path, "it does not say how many parts there are")
        shared = names & header.tensors.keys()
        if shared:
            raise _split_error(file.path, f"tensor {printable(min(shared))!r} is in an earlier part too")
        names |= header.tensors.keys()
    if total != len(names):
        raise _split_error(first.path, f"the parts hold {len(names)} tensors, the metadata says {total}")


def _split_value(header: GgufHeader, key: str, path: Path, default: int) -> int:
    value = header.metadata.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value <= _MOST:
        raise _split_error(path, f"{key} is {printable(value)}")
    return value


def _split_error(path: Path, message: str, hint: str = "fetch all parts of one model again") -> WeightsError:
    return CorruptFile(message, code="RLX-W046", where=printable(path), hint=hint)
