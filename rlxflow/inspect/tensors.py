"""The tensors of a checkpoint in groups: equal patterns, layer ranges, and what they weigh."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from rlxflow.errors import RlxError
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.key_groups import Template, ranges, split_numbers
from rlxflow.weights.source import TensorInfo, WeightSource


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of one pattern, dtype and shape. `nbytes` counts stored bytes, `parameters` elements."""

    pattern: str
    count: int
    dtype: str
    shape: tuple[int, ...]
    parameters: int
    nbytes: int


def tensor_infos(source: WeightSource) -> tuple[list[TensorInfo], list[tuple[str, str]]]:
    """Every tensor's header entry, and (key, reason) of those that cannot be read."""
    infos, unreadable = [], []
    for key in source.keys():  # noqa: SIM118 (a source is no mapping)
        try:
            infos.append(source.info(key))
        except RlxError as error:
            unreadable.append((key, error.message))
    return infos, unreadable


def group_tensors(infos: Iterable[TensorInfo]) -> tuple[TensorGroup, ...]:
    """Groups in order of their first tensor, e.g. `model.layers.[0-27].self_attn.q_proj.weight`."""
    found: dict[tuple[Template, str, tuple[int, ...]], list[tuple[int, ...]]] = {}
    sizes: dict[tuple[Template, str, tuple[int, ...]], int] = {}
    for info in infos:
        template, numbers = split_numbers(info.key)
        kind = template, info.dtype.name, info.shape
        found.setdefault(kind, []).append(numbers)
        sizes[kind] = info.nbytes
    return tuple(
        TensorGroup(_pattern(kind[0], rows), len(rows), kind[1], kind[2], n * prod(kind[2]), n * sizes[kind])
        for kind, rows in found.items()
        for n in (len(rows),)
    )


def _pattern(template: Template, rows: list[tuple[int, ...]]) -> str:
    columns = iter(zip(*rows, strict=True))
    spans = [part if part is not None else ranges(next(columns)) for part in template]
    return ".".join(
        span if part is not None or span.isdecimal() else f"[{span}]"
        for part, span in zip(template, spans, strict=True)
    )
