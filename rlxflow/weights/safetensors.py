"""Safetensors files as a `WeightSource`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rlxflow.dtypes import DTYPES, Array, to_numpy
from rlxflow.errors import UnsupportedFile, WeightsError, printable
from rlxflow.weights.file_bytes import FileBytes
from rlxflow.weights.safetensors_header import HEADER_CAP, read_header
from rlxflow.weights.source import TensorInfo, missing


class SafetensorsFile:
    """The tensors of one safetensors file; a `WeightSource`.

    The header is checked whole before the constructor returns; data is read when asked, with plain reads.
    `metadata` is the file's `__metadata__`, `notes` what is odd but harmless. Raises `WeightsError` where
    there is no readable file, `CorruptFile` where the bytes contradict the format, `UnsupportedFile` for
    another kind of file, or a shape beyond our limits. `shown` names the file in messages.
    """

    def __init__(
        self, path: Path | str, *, max_header_bytes: int = HEADER_CAP, shown: str | None = None
    ) -> None:
        self.path = Path(path)
        self._where = printable(shown or self.path)
        self._file = FileBytes(self.path)
        header = read_header(self._file, self._where, max_header_bytes)
        self._tensors, self._offsets = header.tensors, header.offsets
        self.metadata, self.notes = header.metadata, header.notes

    def keys(self) -> Iterable[str]:
        return self._tensors.keys()

    def info(self, key: str) -> TensorInfo:
        """What the header says, for the dtypes that cannot be read too. Raises `MissingTensor`."""
        if key not in self._tensors:
            raise missing(key, self._tensors, self._where)
        return self._tensors[key]

    def read(self, key: str) -> Array:
        """The tensor, C-contiguous in its own dtype.

        Raises `MissingTensor`, `UnsupportedFile` for F8, F6, F4 and C64, `CorruptFile` when the file is
        no longer the one whose header was read, `WeightsError` when memory is short.
        """
        info = self.info(key)
        if info.dtype.name not in DTYPES:
            raise unreadable_dtype(info)
        try:
            data = self._file.read(self._offsets[key], info.nbytes)
        except MemoryError as error:
            raise WeightsError(
                f"no memory for tensor {printable(key)!r} of {info.nbytes:,} bytes",
                code="RLX-W036",
                where=info.where,
                hint="close other programs or use a smaller model",
            ) from error
        return data.view(to_numpy(info.dtype)).reshape(info.shape)


def unreadable_dtype(info: TensorInfo) -> UnsupportedFile:
    """The error for a tensor whose dtype rlxflow lists but does not read."""
    return UnsupportedFile(
        f"tensor {printable(info.key)!r} has dtype {info.dtype}, which rlxflow does not read",
        code="RLX-W020",
        where=info.where,
        hint="use the unquantised checkpoint of this model (BF16, F16 or F32)",
    )
