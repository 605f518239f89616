"""Safetensors weights in several files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from rlxflow.dtypes import Array
from rlxflow.errors import CorruptFile, PathEscape, WeightsError, printable
from rlxflow.weights.contained import contained_file, name_problem
from rlxflow.weights.json_file import read_json
from rlxflow.weights.safetensors import SafetensorsFile
from rlxflow.weights.source import TensorInfo, missing

_AGAIN = "the download is incomplete or mixes two models; download it again"


class ShardedWeights:
    """The tensors of several safetensors files; a `WeightSource`.

    Every shard's header is read and checked by the constructor; no file stays open. With a `weight_map`
    (tensor → shard) the map is the authority: each tensor must lie in the shard it names, tensors that it
    does not name are left out and noted. Without one, all tensors of all shards count.

    Raises as `SafetensorsFile` and `contained_file`, `WeightsError` (W026) where shards are missing,
    `CorruptFile` where map and shards disagree (W027) or two shards hold one tensor (W031).
    """

    def __init__(
        self, directory: Path, shards: Iterable[str], weight_map: Mapping[str, str] | None = None
    ) -> None:
        self.path = directory
        self._where = printable(directory)
        self._files = _open_shards(directory, list(shards))
        self._shard_of = _owners(self._files, self._where)
        self.notes = tuple(f"{name}: {note}" for name, file in self._files.items() for note in file.notes)
        if weight_map is not None:
            self._shard_of = self._follow(weight_map)

    def keys(self) -> Iterable[str]:
        return self._shard_of.keys()

    def info(self, key: str) -> TensorInfo:
        return self._file(key).info(key)

    def read(self, key: str) -> Array:
        return self._file(key).read(key)

    def _file(self, key: str) -> SafetensorsFile:
        if key not in self._shard_of:
            raise missing(key, self._shard_of, self._where)
        return self._files[self._shard_of[key]]

    def _follow(self, weight_map: Mapping[str, str]) -> dict[str, str]:
        """The weight map, once every tensor lies where it says."""
        wrong = [key for key, shard in weight_map.items() if self._shard_of.get(key) != shard]
        if wrong:
            key = wrong[0]
            actual = self._shard_of.get(key)
            place = f"it is in {printable(actual, 80)}" if actual else "it is in no shard"
            message = f"tensor {printable(key, 80)!r} is not in {printable(weight_map[key], 80)}: {place}"
            if len(wrong) > 1:
                message += f" (and {len(wrong) - 1} more like it)"
            raise CorruptFile(
                message, code="RLX-W027", where=self._where, hint=_AGAIN, details={"tensors": wrong}
            )
        extra = len(self._shard_of) - len(weight_map)
        if extra:
            self.notes += (f"{extra} tensors in the shards are not in the index; left out",)
        return dict(weight_map)


def open_index(path: Path) -> ShardedWeights:
    """The weights that the shard index at `path` (`model.safetensors.index.json`) lists.

    Raises `CorruptFile` (W013, W025) for a malformed index, then as `ShardedWeights`.
    """
    content = read_json(path, what="shard index")
    where = printable(path)
    weight_map = _weight_map(content, where)
    shards = list(dict.fromkeys(weight_map.values()))
    weights = ShardedWeights(path.parent, shards, weight_map)
    others = sorted(p.name for p in path.parent.glob("*.safetensors") if p.name not in shards)
    if others:
        named = ", ".join(printable(name, 60) for name in others[:3])
        weights.notes += (f"{len(others)} files are not in the index and are ignored: {named}",)
    metadata = content.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    actual = sum(weights.info(key).nbytes for key in weight_map)
    if total is not None and total != actual:
        shown = printable(total, 40)
        weights.notes += (f"the index says total_size {shown}, its tensors have {actual} bytes",)
    return weights


def _weight_map(content: Any, where: str) -> dict[str, str]:
    """The index's map, each value a plain file name."""

    def fail(problem: str) -> NoReturn:
        raise CorruptFile(f"the shard index {problem}", code="RLX-W025", where=where, hint=_AGAIN)

    if not isinstance(content, dict):
        fail("is not an object")
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        fail("has no weight_map" if weight_map is None else "has a weight_map without entries")
    folded: dict[str, str] = {}
    for key, shard in weight_map.items():
        if not isinstance(shard, str):
            fail(f"maps {printable(key, 80)!r} to something other than a file name")
        if folded.setdefault(shard.casefold(), shard) != shard:
            fail(f"names {printable(shard, 60)!r} and {printable(folded[shard.casefold()], 60)!r}")
    for shard in folded.values():
        problem = name_problem(shard)
        if problem:
            raise PathEscape(
                f"the shard index names {printable(shard, 80)!r}, which {problem}",
                code="RLX-W028",
                where=where,
                hint="shards are named relative to the index, without '..'; get the model from its source",
            )
    return weight_map


def _open_shards(directory: Path, shards: list[str]) -> dict[str, SafetensorsFile]:
    """All shards by name; those that are missing are named together."""
    absent = [name for name in shards if not os.path.exists(directory / name)]  # noqa: PTH110
    if absent:
        named = ", ".join(printable(name, 60) for name in absent[:4])
        more = f" and {len(absent) - 4} more" if len(absent) > 4 else ""
        raise WeightsError(
            f"{len(absent)} of {len(shards)} shards are missing: {named}{more}",
            code="RLX-W026",
            where=printable(directory),
            hint="the download is incomplete; download the missing files",
            details={"missing": absent},
        )
    return {
        name: SafetensorsFile(contained_file(directory, name), shown=str(directory / name)) for name in shards
    }


def _owners(files: Mapping[str, SafetensorsFile], where: str) -> dict[str, str]:
    """The shard of each tensor; no tensor may be in two."""
    owners: dict[str, str] = {}
    for name, file in files.items():
        for key in file.keys():  # noqa: SIM118
            if owners.setdefault(key, name) != name:
                message = f"tensor {printable(key, 80)!r} is in {printable(owners[key], 60)}"
                raise CorruptFile(
                    f"{message} and in {printable(name, 60)}", code="RLX-W031", where=where, hint=_AGAIN
                )
    return owners
