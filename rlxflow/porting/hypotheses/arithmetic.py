"""What shows in the numbers alone: a factor, a sum with other weights, an order of norm and rotation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.values import Value
from rlxflow.porting.hypotheses.cause import Cause, best_of, float_rows
from rlxflow.porting.region import Region, at_valid


def factor(region: Region) -> Iterator[Cause]:
    """The reference is a constant times ours."""
    ours = region.run()
    value, error = _fit(region, [ours])
    if abs(value[0] - 1) > 1e-6:
        yield Cause("scale", f"scale: the reference is {value[0]:.5g} times ours", error)


def sums(region: Region) -> Iterator[Cause]:
    """The reference adds up recorded values with factors of its own: multipliers, another residual."""
    named = _candidates(region)
    for count in (1, 2):
        for chosen in combinations(named.items(), count):
            values, error = _fit(region, [array for _, array in chosen])
            terms = " + ".join(f"{f:.4g} · {name}" for f, (name, _) in zip(values, chosen, strict=True))
            yield Cause("sum", f"multipliers: the reference is {terms}", error)


def cap(region: Region) -> Iterator[Cause]:
    """The reference caps ours, or does not: c · tanh(x / c)."""
    if region.has("tanh"):
        return
    ours = region.run()

    def error(c: float) -> float:
        return region.error(np.tanh(ours / np.float32(c)) * np.float32(c))

    value, left = best_of(error, np.geomspace(0.5, 200.0, 40).tolist())
    yield Cause("softcap", f"softcap: the reference caps this at {value:.4g}", left)


def _candidates(region: Region) -> dict[str, Array]:
    """What a sum may be made of: the recorded values of the target's shape, by the stage that made them."""
    found: dict[str, Array] = {}
    for value, array in region.given.items():
        if array.shape == region.expected.shape and array.dtype.kind == "f":
            found[_name(region, value)] = array
    return dict(list(found.items())[:6])


def _name(region: Region, value: Value) -> str:
    where = region.graph.where(value.node) or value.node.op.name
    return f"{value.node.op.name} of {where}"


def _fit(region: Region, arrays: list[Array]) -> tuple[Array, float]:
    """Least squares of the target over arrays of its shape: (factors, error)."""
    if any(a.shape != region.expected.shape for a in arrays):
        return np.zeros(len(arrays)), float("inf")
    columns = [float_rows(at_valid(a, region.valid)).reshape(-1) for a in arrays]
    wanted = float_rows(at_valid(region.expected, region.valid)).reshape(-1)
    factors: Array = np.linalg.lstsq(np.stack(columns, 1), wanted, rcond=None)[0]
    total = sum(a * f for a, f in zip(arrays, factors, strict=True))
    return factors, region.error(np.asarray(total))
