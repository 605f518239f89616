"""A rule: which fused op to look for, and the conditions that cannot be derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from functools import cached_property
from typing import Any

from rlxflow.errors import FusionError, RlxError, printable, raised_at
from rlxflow.fusion.match import Match
from rlxflow.fusion.trace import Pattern, trace
from rlxflow.ir.op import Op
from rlxflow.ir.values import Node, Value
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class Facts:
    """What is known when a plan is made: tokens = batch · seq (None = any number), and the limits of rules.

    `attention_threshold` is the limit of rules for small inputs; `limits` holds those of single rules, by
    name. Each comes with its origin, for messages.
    """

    tokens: int | None = None
    attention_threshold: int = 64
    limit_origin: str = "default"
    limits: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def beyond(self, rule: Rule) -> str | None:
        """Why the rule does not apply to so many tokens, or None."""
        if rule.name not in self.limits and not rule.small_input:
            return None
        limit, origin = self.limits.get(rule.name, (self.attention_threshold, self.limit_origin))
        if self.tokens is None:
            return f"batch·seq is not known; the limit is {limit} ({origin})"
        return f"batch·seq = {self.tokens} > {limit} ({origin})" if self.tokens > limit else None


@dataclass(frozen=True, eq=False)
class Proposal:
    """A fused op with the operands and attributes it might have; replaying decides."""

    operands: tuple[Value | None, ...]
    attrs: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Finder:
    """How an op is found whose nodes no single last node reaches: from the consumer that gives them roles.

    `propose` looks at one node of the ops `consumers` and gives a proposal, the reason why there is none, or
    None where the op is not in question.
    """

    op: Op[..., Any]
    consumers: tuple[Op[..., Any], ...]
    propose: Callable[[Node], Proposal | str | None]


@dataclass(frozen=True, eq=False)
class Rule:
    """Find what `op` computes, and put `op` there.

    The pattern is `op.decompose`, read backwards; single use, wiring and attributes need no word here.

    - `also`: further ops of the same rule;
    - `small_input`: it pays only for few tokens, and `fusion.attention_threshold` is its limit;
    - `allow`: the reason why a match should not be taken under the facts of a plan, or None; an empty reason
      leaves it silently to another rule;
    - `spellings`: other functions with the meaning of `op`, for graphs written differently;
    - `together`: optional operands that come and go as one;
    - `finders`: for ops with several last nodes;
    - `emit`: called like the op, puts `emits` in its place.
    """

    name: str
    op: Op[..., Any]
    also: tuple[Op[..., Any], ...] = ()
    small_input: bool = False
    allow: Callable[[Match, Facts], str | None] | None = None
    spellings: tuple[Callable[..., Any], ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    finders: tuple[Finder, ...] = ()
    emit: Callable[..., Any] | None = None
    emits: Op[..., Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.op, Op):
            raise FusionError(
                f"rule {self.name!r} is for {printable(self.op, 60)}, which is no op",
                code="RLX-U001",
                hint='decorate the function: @op("fused")',
            )

    def refuses(self, match: Match, facts: Facts) -> str | None:
        """What `allow` says of a match; raises `FusionError` (U021) where it fails or says something else."""
        if self.allow is None:
            return None
        reason = self._call("allow", self.allow, match, facts)
        if reason is not None and not isinstance(reason, str):
            raise self._fault("allow", f"gave {printable(repr(reason), 40)}, neither a reason nor None")
        return reason

    def emitted(self, operands: tuple[Value | None, ...], attrs: Mapping[str, Any]) -> tuple[Value, ...]:
        """What `emit` puts in place; raises `FusionError` (U021) where it fails or gives no values."""
        result = self._call("emit", self.emit, *operands, **attrs)
        values: tuple[Any, ...] = result if isinstance(result, tuple) else (result,)
        if not all(isinstance(value, Value) for value in values):
            raise self._fault("emit", f"gave {printable(repr(result), 40)}, which is no value of the graph")
        return values

    def _call(self, part: str, function: Any, *args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except RlxError:
            raise
        except Exception as error:
            message = f"raised {type(error).__name__}: {printable(error)}"
            raise self._fault(part, message, raised_at(error)) from error

    def _fault(self, part: str, what: str, where: str = "") -> FusionError:
        message = f"{part} of rule {self.name!r} {what}"
        return FusionError(message, code="RLX-U021", where=where, hint="see docs/rules.md")

    @property
    def makes(self) -> tuple[Op[..., Any], ...]:
        """The ops that the rule puts into a graph."""
        return (self.emits or self.op, *self.also)

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """Every variant, largest first and decompositions before spellings; traced at the first use."""
        found: list[Pattern] = []
        for op in (self.op, *self.also):
            if op.decompose_fn is not None:
                found += trace(op, None, self.together)
        found += [p for s in self.spellings for p in trace(self.op, s, self.together)]
        if not found and not self.finders:
            told = self.op.decompose_fn is not None
            raise FusionError(
                f"rule {self.name!r} has no pattern: nothing tells {self.op.name!r} in two ops or more",
                code="RLX-U001",
                where=self.op.rule.__module__,
                hint="its decomposition makes one op, or gives an operand back"
                if told
                else f"add @{self.op.name}.decompose",
            )
        return tuple(sorted(found, key=lambda p: -len(p.nodes)))

    @property
    def canonicalises(self) -> bool:
        """Whether the rule makes a primitive out of smaller ones, which other patterns then see."""
        return self.op.level == "primitive"

    def variant(self, op: Op[..., Any], operands: tuple[Value | None, ...]) -> Pattern:
        """The pattern of `op` that has these operands."""
        present = [v is not None for v in operands]
        return next(p for p in self.patterns if p.op is op and present == [s is not None for s in p.operands])
