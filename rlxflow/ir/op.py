"""Op rows. An op is one decorated function: its signature is the interface, its body the type rule.

    @op("primitive")
    def linear(x: Value, weight: Value) -> Type:
        '''y = x · weightᵀ ...'''
        ...checks...
        return Type(x.dtype, (*x.shape[:-1], weight.dim(0)))

    @linear.reference
    def _(x, weight):
        return x @ weight.T

Positional parameters are operands (`Value`, `Value | None = None` for an optional one, `*xs: Value` for
a variadic one); keyword-only parameters are attributes. Calling the row under a builder emits a node.
A primitive op has a NumPy `reference`; a block or fused op has a `decompose` in simpler ops instead.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import (
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from rlxflow.errors import GraphError, PluginError, RlxError, nearest, printable
from rlxflow.ir.attrs import AttrSpec
from rlxflow.ir.values import Type, Value

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
Level = Literal["primitive", "block", "fused"]

OPS: dict[str, Op[..., Any]] = {}


# Modules that fill the table, and the function of each that does so ("" where importing is enough).
_VOCABULARY = (("rlxflow.ops", ""), ("rlxflow.fusion.rules", "all_rules"))


def find_op(name: str) -> Op[..., Any] | None:
    """The op of that name; the vocabulary is imported if the name is not known yet."""
    if name not in OPS:
        for module, function in _VOCABULARY:
            loaded = importlib.import_module(module)
            if function:
                getattr(loaded, function)()
    return OPS.get(name)


class Emitter(Protocol):
    """What runs a call of an op: graph builders, pattern tracers, replays."""

    def call(self, op: Op[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


_current: ContextVar[Emitter | None] = ContextVar("rlxflow_builder", default=None)


@contextmanager
def emitting(emitter: Emitter) -> Iterator[None]:
    """Within the block, calls of op rows go to `emitter`."""
    token = _current.set(emitter)
    try:
        yield
    finally:
        _current.reset(token)


class Op(Generic[P, R]):
    """One row of the op table: name, level, operands, attributes, type rule, and meaning."""

    def __init__(
        self, rule: Callable[P, Any], level: Level, *, commutative: bool = False, takes_state: bool = False
    ) -> None:
        self.rule = rule
        self.name = rule.__name__.rstrip("_")
        self.level: Level = level
        self.commutative = commutative
        self.takes_state = takes_state
        self.__doc__ = rule.__doc__
        self.reference_fn: Callable[..., Any] | None = None
        self.decompose_fn: Callable[..., Any] | None = None
        self.rows_fn: Callable[..., int] | None = None
        self.validity: str | None = None

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.rule)

    @cached_property
    def operand_names(self) -> tuple[str, ...]:
        """Names of the fixed operands, in order."""
        return tuple(p.name for p in self.signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD)

    @cached_property
    def num_required(self) -> int:
        parameters = self.signature.parameters.values()
        return sum(1 for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty)

    @cached_property
    def num_outputs(self) -> int:
        """How many values the op gives."""
        hint = get_type_hints(self.rule)["return"]
        return len(get_args(hint)) if get_origin(hint) is tuple else 1

    @cached_property
    def variadic(self) -> bool:
        return any(p.kind is p.VAR_POSITIONAL for p in self.signature.parameters.values())

    @cached_property
    def attrs(self) -> dict[str, AttrSpec]:
        """Attribute name → its type and default."""
        hints = get_type_hints(self.rule)
        parameters = self.signature.parameters.values()
        return {
            p.name: AttrSpec(p.name, hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY
        }

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        emitter = _current.get()
        if emitter is None:
            raise GraphError(
                f"op {self.name!r} called outside a builder",
                code="RLX-I003",
                hint="call ops inside a stage's emit, or under `with emitting(GraphBuilder(...))`",
            )
        result: R = emitter.call(self, args, kwargs)
        return result

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Value | None, ...], dict[str, Any]]:
        """Split a call into operands (padded with None) and checked attributes."""
        operands = list(args)
        for name in self.operand_names[len(args) :]:
            operands.append(kwargs.pop(name, None))
        if len(operands) > len(self.operand_names) and not self.variadic:
            raise self.error(f"takes {len(self.operand_names)} operands, got {len(operands)}")
        for i, operand in enumerate(operands):
            if isinstance(operand, Value):
                continue
            if operand is not None or not self.num_required <= i < len(self.operand_names):
                name = self.operand_names[i] if i < len(self.operand_names) else f"#{i}"
                what = "missing" if operand is None else type(operand).__name__
                raise self.error(f"operand {name!r} is {what}")
        for name in kwargs:
            if name not in self.attrs:
                raise self.error(f"no attribute {name!r}", hint=nearest(name, self.attrs))
        return tuple(operands), {
            n: spec.check(self.name, kwargs.get(n, spec.default)) for n, spec in self.attrs.items()
        }

    def infer(self, operands: tuple[Value | None, ...], attrs: dict[str, Any]) -> tuple[Type, ...]:
        """Output types of the op on these operands; raises `GraphError` where they do not fit."""
        if not self.takes_state and any(v is not None and v.type.state for v in operands):
            raise self.error("a cache state is not a value", "read caches with cached_attention")
        try:
            result = self.rule(*operands, **attrs)  # type: ignore[call-arg, arg-type, unused-ignore]
        except RlxError:
            raise
        except Exception as error:  # a rule of a third party, or one that met what it did not foresee
            message = f"its type rule raised {type(error).__name__}: {printable(error)}"
            raise self.error(message, "check the operands' shapes", code="RLX-I009") from error
        types = result if isinstance(result, tuple) else (result,)
        if not types or not all(isinstance(t, Type) for t in types):
            raise self.error(
                "its type rule gave no Type", "return a Type, or a tuple of them", code="RLX-I009"
            )
        return types

    def error(self, message: str, hint: str = "", code: str = "RLX-I004") -> GraphError:
        """A `GraphError` that names this op."""
        return GraphError(f"{self.name}: {message}", code=code, hint=hint)

    def reference(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: the NumPy meaning, on arrays, with symbolic attributes already bound."""
        self.reference_fn = fn
        return fn

    def decompose(self, fn: Callable[P, Any]) -> Callable[P, Any]:
        """Decorator: the meaning in simpler ops; a pure function of its operands and attributes."""
        self.decompose_fn = fn
        return fn

    def rows(self, fn: Callable[..., int]) -> Callable[..., int]:
        """Decorator: how many leading axes of the outputs are independent of each other.

        2 for an op on `[B, S, …]` says: token (b, s) of the result depends only on token (b, s) of the
        operands that have those axes. An op without this fact is taken to mix everything.
        """
        self.rows_fn = fn
        return fn

    def ignores_invalid(self, operand: str) -> None:
        """State that the op mixes tokens, but only those that `operand` calls valid.

        The operand is a mask [B, S] (non-zero = valid) or a count [B] (the first tokens are valid). A backend
        may then leave invalid tokens out altogether.
        """
        self.validity = operand

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class _OpDecorator(Protocol):
    @overload
    def __call__(self, rule: Callable[P, Type]) -> Op[P, Value]: ...
    @overload
    def __call__(self, rule: Callable[P, tuple[Type, Type]]) -> Op[P, tuple[Value, Value]]: ...
    @overload
    def __call__(self, rule: Callable[P, tuple[Type, Type, Type]]) -> Op[P, tuple[Value, Value, Value]]: ...


def op(level: Level, *, commutative: bool = False, takes_state: bool = False) -> _OpDecorator:
    """Make a function an op row and enter it in the table; names are unique.

    Only an op that `takes_state` may read a cache state.
    """
    if level not in get_args(Level):
        hint = f"levels: {', '.join(get_args(Level))}"
        raise PluginError(f"no level of ops {printable(repr(level), 40)}", code="RLX-X011", hint=hint)

    def register(rule: Callable[..., Any]) -> Any:
        bare = [
            name
            for name in (*inspect.signature(rule).parameters, "return")
            if name not in rule.__annotations__
        ]
        if bare:
            hint = "annotate operands as Value, attributes with their type, and the result as Type"
            message = f"op {rule.__name__!r} has no annotation for {bare[0]!r}"
            raise PluginError(message, code="RLX-X011", hint=hint)
        row: Op[..., Any] = Op(rule, level, commutative=commutative, takes_state=takes_state)
        if row.name in OPS:
            raise PluginError(
                f"op {row.name!r} is defined in {OPS[row.name].rule.__module__} and in {rule.__module__}",
                code="RLX-X001",
                hint="rename one of them",
            )
        OPS[row.name] = row
        return row

    return register
