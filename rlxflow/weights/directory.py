"""Weights at a path: one file, a shard index, or a model directory."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rlxflow.errors import UnsupportedFile, WeightsError, printable
from rlxflow.weights.contained import contained_file
from rlxflow.weights.file_bytes import FileBytes
from rlxflow.weights.safetensors import SafetensorsFile
from rlxflow.weights.shards import ShardedWeights, open_index
from rlxflow.weights.source import WeightSource

INDEX_NAME = "model.safetensors.index.json"
FILE_NAME = "model.safetensors"

_PART = re.compile(r"(?P<stem>.*)-(?P<index>\d{5})-of-(?P<count>\d{5})\.safetensors")
_OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack", "*.onnx")


def open_weights(path: os.PathLike[str] | str) -> WeightSource:
    """The weights at `path`, which is a model directory, a shard index, a safetensors or a GGUF file.

    A file's kind is told by its content. A GGUF file comes under its own tensor names. Headers are checked,
    data is read on demand. Raises as `SafetensorsFile`, `open_index`, `GgufFile` and `open_directory`.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        hint = "give a model directory, a shard index, or a weights file"
        raise WeightsError(f"{printable(repr(path), 60)} is no path", code="RLX-W001", hint=hint)
    path = Path(path)
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises for some names)
        return open_directory(path)
    if path.name.endswith(".index.json"):
        return open_index(path)
    file = FileBytes(path)
    if file.read(0, min(file.size, 4)).tobytes() == b"GGUF":
        from rlxflow.weights.gguf import GgufFile

        return GgufFile(path)
    return SafetensorsFile(path)


def open_directory(path: Path | str) -> SafetensorsFile | ShardedWeights:
    """The safetensors weights of a model directory.

    In this order: what `model.safetensors.index.json` lists; `model.safetensors`; another single index or
    file; a complete family `NAME-00001-of-0000N.safetensors`. What is left aside is in `notes`.

    Raises `WeightsError` (W001, W029) where there is no such directory, no weights or no one choice,
    `UnsupportedFile` (W030) where all weights are in formats such as pickle, `PathEscape` (W028) where a
    file is a link out of the directory.
    """
    directory = Path(path)
    files, indexes = _list(directory, "*.safetensors"), _list(directory, "*.safetensors.index.json")
    if INDEX_NAME in indexes or len(indexes) == 1:
        name = INDEX_NAME if INDEX_NAME in indexes else indexes[0]
        contained_file(directory, name)
        return open_index(directory / name)
    if FILE_NAME in files or (len(files) == 1 and not _PART.fullmatch(files[0])):
        name = FILE_NAME if FILE_NAME in files else files[0]
        found = SafetensorsFile(contained_file(directory, name), shown=str(directory / name))
        others = [other for other in files if other != name]
        if others:
            named = ", ".join(printable(other, 60) for other in others[:3])
            found.notes += (f"{FILE_NAME} is read, {len(others)} other files are ignored: {named}",)
        return found
    if files:
        return ShardedWeights(directory, _family(directory, files))
    raise _nothing(directory)


def _list(directory: Path, pattern: str) -> list[str]:
    """Names of the files of a directory, hidden ones left out, in order."""
    try:
        if not os.path.isdir(directory):  # noqa: PTH112
            raise WeightsError(
                "there is no such directory",
                code="RLX-W001",
                where=printable(directory),
                hint="check the path",
            )
        names = [entry.name for entry in directory.iterdir() if entry.match(pattern)]
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"cannot list the directory: {printable(getattr(error, 'strerror', None) or error)}",
            code="RLX-W001",
            where=printable(directory),
            hint="check the path and its permissions",
        ) from error
    return sorted(name for name in names if not name.startswith("."))


def _family(directory: Path, files: list[str]) -> list[str]:
    """The files of a directory without index, if they are all parts of one complete family."""
    parts = [_PART.fullmatch(name) for name in files]
    families = {(part["stem"], int(part["count"])) if part else None for part in parts}
    family = families.pop()
    if families or family is None:
        named = ", ".join(printable(name, 60) for name in files[:4])
        raise WeightsError(
            f"{len(files)} safetensors files and no index: {named}",
            code="RLX-W029",
            where=printable(directory),
            hint=f"download {INDEX_NAME}, or open one of the files by its own path",
        )
    stem, count = family
    if count > 10 * len(files):
        count = len(files) + 1  # a damaged name; naming the next missing part is enough
    return [f"{stem}-{number:05}-of-{family[1]:05}.safetensors" for number in range(1, count + 1)]


def _nothing(directory: Path) -> WeightsError:
    """The error for a directory without safetensors files."""
    where = printable(directory)
    if ggufs := _list(directory, "*.gguf"):
        return WeightsError(
            f"the directory has GGUF files only: {', '.join(printable(name, 60) for name in ggufs[:3])}",
            code="RLX-W029",
            where=where,
            hint="give the path of the .gguf file itself (the first part of a split one)",
        )
    others = [name for pattern in _OTHER_FORMATS for name in _list(directory, pattern)]
    if others:
        return UnsupportedFile(
            f"the weights are in {printable(others[0], 80)}, which rlxflow does not read",
            code="RLX-W030",
            where=where,
            hint="rlxflow never unpickles; load the model with transformers and save it again with "
            "`model.save_pretrained(path, safe_serialization=True)`",
        )
    hint = "check the path; weights are in model.safetensors or in the files that an index lists"
    if snapshots := sorted(directory.glob("snapshots/*")):
        hint = f"this is the cache folder of a model: give {printable(snapshots[-1])}"
    return WeightsError("the directory has no weights", code="RLX-W029", where=where, hint=hint)
