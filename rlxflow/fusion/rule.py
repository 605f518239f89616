"""A rule: which fused op to look for, and the conditions that cannot be derived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rlxflow.fusion.match import Match
from rlxflow.fusion.trace import Pattern, trace
from rlxflow.ir.op import Op


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when a plan is made: tokens = batch · seq (None = any number), and the small-input limit.

    `limit_origin` says where the limit comes from, for messages.
    """

    tokens: int | None = None
    attention_threshold: int = 64
    limit_origin: str = "default"


@dataclass(frozen=True, eq=False)
class Rule:
    """Find what `op` computes, and put `op` there.

    The pattern is `op.decompose`, read backwards; single use, wiring and attributes need no word here.
    `allow` gives the reason why a match should not be taken under the facts of a plan, or None. `spellings`
    are other functions with the same meaning, for graphs written differently.
    """

    name: str
    op: Op[..., Any]
    allow: Callable[[Match, Facts], str | None] | None = None
    spellings: tuple[Callable[..., Any], ...] = ()
    _patterns: list[Pattern] = field(default_factory=list, repr=False)

    @property
    def patterns(self) -> list[Pattern]:
        """Every variant, largest first; traced at the first use."""
        if not self._patterns:
            for function in (None, *self.spellings):
                self._patterns.extend(trace(self.op, function))
        return self._patterns


def small_input(match: Match, facts: Facts) -> str | None:
    """The condition of the fusions that pay only for few tokens."""
    if facts.tokens is None:
        return f"batch·seq is not known; the limit is {facts.attention_threshold} ({facts.limit_origin})"
    if facts.tokens > facts.attention_threshold:
        return f"batch·seq = {facts.tokens} > {facts.attention_threshold} ({facts.limit_origin})"
    return None
