"""Weight sources seen under other names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from rlxflow.dtypes import Array
from rlxflow.weights.source import TensorInfo, WeightSource, missing


class RenamedWeights:
    """`source` under the keys of `names` (new key → stored key); other tensors are not seen."""

    def __init__(self, source: WeightSource, names: Mapping[str, str]) -> None:
        self._source = source
        self._names = dict(names)

    def keys(self) -> Iterable[str]:
        return self._names.keys()

    def info(self, key: str) -> TensorInfo:
        return replace(self._source.info(self._stored(key)), key=key)

    def read(self, key: str) -> Array:
        return self._source.read(self._stored(key))

    def _stored(self, key: str) -> str:
        if key not in self._names:
            raise missing(key, self._names, "renamed weights")
        return self._names[key]
