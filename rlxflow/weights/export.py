"""Writing a checkpoint: a Hugging Face directory, whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rlxflow.errors import UnsupportedFile, WeightsError, printable
from rlxflow.weights.contained import contained_file
from rlxflow.weights.directory import FILE_NAME, INDEX_NAME
from rlxflow.weights.safetensors_writer import write_safetensors
from rlxflow.weights.source import TensorInfo, WeightSource

MAX_SHARD_BYTES = 2_000_000_000  # one shard is in memory at a time
_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".md")  # settings and vocabularies; never code or weights
_METADATA = {"format": "pt"}  # transformers asks for it: tensors in PyTorch's layout


def save_checkpoint(
    directory: Path | str,
    source: WeightSource,
    keys: Iterable[str],
    texts: Mapping[str, str],
    copy_from: Path | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:
    """Write tensors as stored, under their keys, as safetensors; shards get an index.

    `texts` are files by name; the settings and tokenizer files of the directory `copy_from` are copied as
    they are, its subdirectories included. The directory must not exist yet, or be empty: it appears under its
    name once everything is on disk. Raises `WeightsError` (W039 for a place that is taken, W038 where the
    system refuses), `UnsupportedFile` (W050) for packed tensors, which safetensors cannot hold.
    """
    directory = Path(directory)
    infos = [source.info(key) for key in keys]
    _want_plain(infos)
    unfinished = directory.with_name(f".{directory.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        _want_free(directory)
        unfinished.mkdir(parents=True)
        try:
            _write_tensors(unfinished, source, infos, max_shard_bytes)
            if copy_from is not None:
                for name in _side_files(copy_from):
                    _copy(contained_file(copy_from, name), unfinished / name)
            for name, text in texts.items():
                (unfinished / name).write_text(text, encoding="utf-8")
            unfinished.rename(directory)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise WeightsError(
            f"cannot save the model: {error.strerror or error}",
            code="RLX-W038",
            where=printable(directory),
            hint="choose a folder that can be written to, with room for the weights",
        ) from error
    return directory


def _want_plain(infos: Iterable[TensorInfo]) -> None:
    packed = [info for info in infos if info.dtype.packed]
    if packed:
        raise UnsupportedFile(
            f"safetensors cannot hold packed tensors: {len(packed)}, such as "
            f"{printable(packed[0].key, 80)!r} in {packed[0].dtype}",
            code="RLX-W050",
            where=packed[0].where,
            hint="copy the GGUF file itself, or save from the model it was made of",
            details={"tensors": [info.key for info in packed]},
        )


def _want_free(directory: Path) -> None:
    if os.path.lexists(directory) and (not directory.is_dir() or any(directory.iterdir())):
        raise WeightsError(
            "there is something already, and saving never replaces a model",
            code="RLX-W039",
            where=printable(directory),
            hint="give a directory that is empty or does not exist",
        )


def _write_tensors(
    directory: Path, source: WeightSource, infos: list[TensorInfo], max_shard_bytes: int
) -> None:
    shards = list(_shards(infos, max_shard_bytes))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = FILE_NAME if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(directory / name, [(i.key, source.read(i.key)) for i in shard], _METADATA)
        weight_map |= {info.key: name for info in shard}
    if len(shards) > 1:
        total = sum(info.nbytes for info in infos)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(infos: Iterable[TensorInfo], max_shard_bytes: int) -> Iterator[list[TensorInfo]]:
    """Tensors in order, as many to a shard as fit; one that is larger than a shard gets its own."""
    shard: list[TensorInfo] = []
    held = 0
    for info in infos:
        if shard and held + info.nbytes > max_shard_bytes:
            yield shard
            shard, held = [], 0
        shard.append(info)
        held += info.nbytes
    yield shard


def _side_files(directory: Path) -> list[str]:
    """Settings, vocabularies and readmes of a model directory and of its subdirectories, by relative name."""
    found = []
    for path in sorted([*directory.iterdir(), *directory.glob("*/*")]):
        name = path.relative_to(directory).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        wanted = path.name.endswith(_SUFFIXES) and not path.name.endswith(".index.json")
        if path.is_file() and not hidden and (wanted or path.name.startswith("LICENSE")):
            found.append(name)
    return found


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, to)


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration as config.json."""
    return json.dumps(dict(config), indent=2, allow_nan=False) + "\n"
