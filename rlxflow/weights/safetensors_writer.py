"""Writing safetensors files: whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from rlxflow.dtypes import Array, from_numpy
from rlxflow.errors import WeightsError, printable


def write_safetensors(
    path: Path | str, tensors: Iterable[tuple[str, Array]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `(key, array)` pairs to `path`, which changes only once the new file is complete.

    Arrays must be C-contiguous; any other layout raises `WeightsError` (W038), as do equal keys, types
    without a dtype and a file system that refuses.
    """
    path = Path(path)
    arrays = sorted(tensors, key=lambda item: (-item[1].dtype.itemsize, item[0]))  # keeps data aligned
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for key, array in arrays:
        dtype = from_numpy(array.dtype)
        if dtype is None or not array.flags.c_contiguous or key in header or key == "__metadata__":
            raise _refused(f"array {printable(key)!r} ({array.dtype}) cannot be written", path)
        span = [at, at + array.nbytes]
        header[key] = {"dtype": dtype.name.upper(), "shape": list(array.shape), "data_offsets": span}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with unfinished.open("xb") as file:
                file.write(len(text).to_bytes(8, "little") + text)
                for _, array in arrays:
                    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                    file.write(little.reshape(-1).view(np.uint8).data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(f"cannot write the file: {error.strerror}", path) from error


def _refused(message: str, path: Path) -> WeightsError:
    hint = "give distinct keys and C-contiguous arrays (np.ascontiguousarray) and a writable folder"
    return WeightsError(message, code="RLX-W038", where=printable(path), hint=hint)
