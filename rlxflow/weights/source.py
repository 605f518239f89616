"""Where weights come from: the `WeightSource` protocol, and the in-memory `MapWeights`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from rlxflow.dtypes import Array, DType, from_numpy
from rlxflow.errors import MissingTensor, UnsupportedFile, nearest, printable
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of one tensor.

    `shape` is the logical shape in the Hugging Face layout (`[out, in]` for a linear weight), in
    elements, for packed types too. `where` is a place for messages: `file` or `file:offset`.
    """

    key: str
    dtype: DType
    shape: tuple[int, ...]
    where: str = ""

    @property
    def nbytes(self) -> int:
        return self.dtype.nbytes(self.shape)


@runtime_checkable
class WeightSource(Protocol):
    """Named tensors, read lazily and as often as asked, in the dtype they are stored in.

    Keys are Hugging Face parameter names. `info` never reads tensor data. `read` returns a C-contiguous
    array that the caller may keep and must not write to: shape and type as `info` says for plain dtypes;
    for packed ones the blocks as `uint8 [*shape[:-1], shape[-1] / block_size * block_bytes]`.
    Both raise `MissingTensor` for an unknown key.
    """

    def keys(self) -> Iterable[str]: ...

    def info(self, key: str) -> TensorInfo: ...

    def read(self, key: str) -> Array: ...


class Weights(Protocol):
    """The reading half of a `WeightSource`: tensors by key, in their stored dtype."""

    def read(self, key: str) -> Array: ...


def missing(key: str, known: Iterable[str], where: str) -> MissingTensor:
    """The error for a key that a source does not have."""
    return MissingTensor(
        f"no tensor named {printable(key)!r}",
        code="RLX-W002",
        where=where,
        hint=nearest(key, known) or "list the tensors with `rlxflow inspect`",
    )


class MapWeights:
    """Weights from a mapping of names to NumPy arrays (tests, notebooks, generated models).

    Raises `UnsupportedFile` for an array whose type has no DType (object, complex, string).
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays: dict[str, Array] = {}
        for key, value in arrays.items():
            array = np.ascontiguousarray(value)
            array = array.astype(array.dtype.newbyteorder("="), copy=False)
            if from_numpy(array.dtype) is None:
                raise UnsupportedFile(
                    f"array {printable(key)!r} has type {array.dtype}",
                    code="RLX-W003",
                    where="MapWeights",
                    hint="give float, integer or bool arrays",
                )
            self._arrays[key] = array.reshape(np.shape(value))

    def keys(self) -> Iterable[str]:
        return self._arrays.keys()

    def info(self, key: str) -> TensorInfo:
        array = self._get(key)
        dtype = from_numpy(array.dtype)
        assert dtype is not None  # the constructor checked it
        return TensorInfo(key, dtype, tuple(array.shape), "MapWeights")

    def read(self, key: str) -> Array:
        return self._get(key)

    def _get(self, key: str) -> Array:
        if key not in self._arrays:
            raise missing(key, self._arrays, "MapWeights")
        return self._arrays[key]
