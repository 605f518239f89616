"""A possible cause of a difference, and small helpers that every family of hypotheses uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import RlxError
from rlxflow.ir.values import Node
from rlxflow.porting.region import Change, Region
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class Cause:
    """`kind` for programs, `text` for people; `error` is what is left of the difference if it is this."""

    kind: str
    text: str
    error: float


Hypothesis: TypeAlias = Callable[[Region], Iterator[Cause]]


def tried(region: Region, kind: str, text: str, change: Change) -> Iterator[Cause]:
    """The cause with the error that the change leaves; nothing where the change does not run."""
    try:
        error = region.error(region.run(change))
    except (RlxError, ValueError, IndexError, ArithmeticError, TypeError):
        return
    if np.isfinite(error):
        yield Cause(kind, text, error)


def with_attrs(region: Region, nodes: Iterable[Node], **attrs: Any) -> Change:
    """A change that gives some nodes other attributes."""
    wanted = set(nodes)

    def change(node: Node, operands: list[Any]) -> Any:
        return region.plain(node, operands, **attrs) if node in wanted else None

    return change


def best_number(
    region: Region, nodes: Sequence[Node], attr: str, values: Sequence[float], rounds: int = 8
) -> tuple[float, float]:
    """(value, error) of a float attribute that fits best, see `best_of`."""

    def error(value: float) -> float:
        try:
            return region.error(region.run(with_attrs(region, nodes, **{attr: value})))
        except (RlxError, ValueError, ArithmeticError):
            return float("inf")

    return best_of(error, values, rounds)


def best_of(error: Callable[[float], float], values: Sequence[float], rounds: int = 8) -> tuple[float, float]:
    """(value, error): a search over `values`, between the neighbours of the best, and of round numbers."""
    tries = {v: error(v) for v in values}
    for _ in range(rounds):
        ordered = sorted(tries)
        at = ordered.index(min(tries, key=tries.__getitem__))
        low, high = ordered[max(at - 1, 0)], ordered[min(at + 1, len(ordered) - 1)]
        tries |= {v: error(v) for v in np.geomspace(low, high, 9)[1:-1].tolist()}
    found = min(tries, key=tries.__getitem__)
    tries |= {v: error(v) for v in {float(f"{found:.{digits}g}") for digits in range(1, 7)}}
    value = min(tries, key=tries.__getitem__)
    return value, tries[value]


def float_rows(array: Array) -> Array:
    """[rows, width] in float64."""
    return array.reshape(-1, array.shape[-1]).astype(np.float64)
