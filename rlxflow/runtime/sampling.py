"""Choosing the next token from logits, step by step as Hugging Face's logits processors do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import InputError, printable
from rlxflow.runtime.inputs import is_count

_FIRST_LOOK = 1024  # candidates sorted before the whole vocabulary is, to find the nucleus
_BLOCK = 64  # a large vocabulary is searched by the sums and maxima of its blocks first


class Sampler:
    """Repetition penalty, then temperature, top-k, top-p, min-p, and one draw.

    - repetition penalty r: the logit of each token already in the history is divided by r where positive,
      multiplied where negative.
    - temperature t: logits / t; at 0 the token of the largest logit is taken (the lowest id of equal ones)
      and nothing below applies.
    - top-k (0: off): logits of at least the k-th largest stay, ties included.
    - top-p (1: off): the most likely tokens stay up to and including the one that brings the sum to p.
    - min-p (0: off): tokens at least min_p times as likely as the likeliest stay.

    The same seed gives the same draws; `None` takes one from the system. Sources: transformers,
    `generation/logits_process.py`; min-p: arXiv 2407.01082. Raises `InputError` R030 for a setting outside
    its range.
    """

    def __init__(
        self,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self.temperature = _number("temperature", temperature, 0.0, math.inf)
        self.top_k = _integer("top_k", top_k)
        self.top_p = _number("top_p", top_p, 0.0, 1.0, above=True)
        self.min_p = _number("min_p", min_p, 0.0, 1.0)
        self.repetition_penalty = _number("repetition_penalty", repetition_penalty, 1e-3, 1e3)
        self._random = np.random.default_rng(None if seed is None else _integer("seed", seed))

    def next(self, logits: Array, history: Sequence[int] | Array = ()) -> int:
        """The id drawn after `history` from float logits of shape [V].

        Raises `InputError` R031 for logits that are NaN, +inf, all -inf or of another shape or type.
        """
        if self.temperature == 0.0:
            if self._keeps(history):
                return _checked(logits)[1]
            return int(np.argmax(self._penalised(logits, history)))
        ids, probabilities = self.distribution(logits, history)
        return int(ids[_drawn(probabilities, self._random.random())])

    def distribution(self, logits: Array, history: Sequence[int] | Array = ()) -> tuple[Array, Array]:
        """The ids that stay and their probabilities (float64, of sum 1), for a temperature above 0."""
        scores = self._penalised(logits, history)
        # The largest first becomes 0, so that no temperature overflows.
        with np.errstate(over="ignore"):
            scores = (scores - scores.max()) / self.temperature
        ids = self._top_k(scores)
        weights = np.exp(scores if len(ids) == len(scores) else scores[ids])
        if self.top_p < 1.0:
            ids, weights = self._nucleus(ids, weights)
        if self.min_p > 0.0:
            kept = weights >= self.min_p * weights.max()
            ids, weights = ids[kept], weights[kept]
        return ids, weights / weights.sum()

    def _keeps(self, history: Sequence[int] | Array) -> bool:
        """Whether logits stay as they are."""
        return self.repetition_penalty == 1.0 or not len(history)

    def _penalised(self, logits: Array, history: Sequence[int] | Array) -> Array:
        scores = _checked(logits)[0].astype(np.float64)
        if self._keeps(history):
            return scores
        seen = np.asarray(history)
        if seen.dtype.kind not in "iu" or seen.min() < 0 or seen.max() >= len(scores):
            raise InputError(
                f"the history holds ids outside 0 … {len(scores) - 1}",
                code="RLX-R031",
                hint="give the ids of the prompt and of what was written",
            )
        old = scores[seen]
        scores[seen] = np.where(old < 0, old * self.repetition_penalty, old / self.repetition_penalty)
        return scores

    def _top_k(self, scores: Array) -> Array:
        """Ids in their order that are among the k largest, or all that are possible."""
        if not 0 < self.top_k < len(scores):
            impossible = scores.min() == -np.inf
            return np.flatnonzero(scores > -np.inf) if impossible else np.arange(len(scores))
        ids = np.flatnonzero(scores >= _reached(scores, self.top_k))
        least = np.partition(scores[ids], -self.top_k)[-self.top_k]
        return ids[(scores[ids] >= least) & (scores[ids] > -np.inf)]

    def _nucleus(self, ids: Array, weights: Array) -> tuple[Array, Array]:
        """What top-p keeps, likeliest first. It is usually small, so the largest weights are tried first."""
        wanted = self.top_p * weights.sum()
        look = _FIRST_LOOK
        while True:
            order = _largest(weights, look)
            total = np.cumsum(weights[order])
            # A token stays while the sum before it is under p.
            stay = 1 + int(np.searchsorted(total, wanted, side="left"))
            if stay <= len(order) or len(order) == len(ids):
                order = order[:stay]
                return ids[order], weights[order]
            look *= 16


def _largest(weights: Array, count: int) -> Array:
    """Indices of the `count` largest and perhaps more, largest first, equal ones in order of index."""
    if count >= len(weights):
        return np.argsort(-weights, kind="stable")
    found = np.flatnonzero(weights >= _reached(weights, count))
    return found[np.argsort(-weights[found], kind="stable")]


def _reached(values: Array, count: int) -> Any:
    """A bound that `count` values reach, and not many more: the count-th largest of the blocks' maxima.

    Finding it takes a tenth of the time of the count-th largest value itself.
    """
    maxima = np.maximum.reduceat(values, np.arange(0, len(values), _BLOCK))
    return np.partition(maxima if count <= len(maxima) else values, -count)[-count]


def _drawn(probabilities: Array, number: float) -> int:
    """The index whose share of the sum holds `number` of [0, 1); its block is found first."""
    firsts = np.arange(0, len(probabilities), _BLOCK)
    blocks = np.cumsum(np.add.reduceat(probabilities, firsts))
    # below the sum, so that what is found is never of probability 0
    wanted = min(number * blocks[-1], np.nextafter(blocks[-1], 0.0))
    block = int(np.searchsorted(blocks, wanted, side="right"))
    first = int(firsts[block])
    inside = np.cumsum(probabilities[first : first + _BLOCK])
    rest = min(wanted - (blocks[block - 1] if block else 0.0), np.nextafter(inside[-1], 0.0))
    return first + int(np.searchsorted(inside, rest, side="right"))


def _checked(logits: Array) -> tuple[Array, int]:
    """The logits and the index of the largest. NaN counts as the largest, so one pass finds it too."""
    array = np.asarray(logits)
    problem, best = None, 0
    if array.ndim != 1 or not len(array):
        problem = f"have shape {list(array.shape)}, not [V]"
    elif array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        problem = f"are {array.dtype}, not floats"
    else:
        best = int(array.argmax())
        largest = array[best]
        if not np.isfinite(largest):
            problem = "are all -inf" if largest == -np.inf else f"hold {largest}"
    if problem is not None:
        raise InputError(
            f"the logits {problem}",
            code="RLX-R031",
            hint="give one row of finite float logits; NaN comes from damaged weights or an overflow",
        )
    return array, best


def _number(name: str, value: Any, low: float, high: float, above: bool = False) -> float:
    """A finite number from `low` (or above it) to `high`."""
    number = math.nan if isinstance(value, bool | str) or not hasattr(value, "__float__") else float(value)
    if not math.isfinite(number) or not low <= number <= high or (above and number == low):
        least = f"above {low:g}" if above else f"of {low:g} or more"
        most = "" if math.isinf(high) else f" and at most {high:g}"
        _refuse(name, value, f"give a finite number {least}{most}")
    return number


def _integer(name: str, value: Any) -> int:
    if not is_count(value):
        _refuse(name, value, "give an integer of 0 or more")
    return int(value)


def _refuse(name: str, value: Any, hint: str) -> NoReturn:
    raise InputError(f"{name} is {printable(repr(value), 60)}", code="RLX-R030", where=f"{name}=", hint=hint)
