"""The Jinja environment of chat templates: what Hugging Face's has, within a `Budget`.

Everything that can make a value larger than its operands (operators, `~`, captured blocks, literals,
growing filters and string methods) is spent from the budget first. Filters and methods that lay text out
(`center`, `wordwrap`, `ljust`, …) are left out: prompts do not need them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import wraps
from itertools import chain
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from rlxflow.runtime.chat_limits import MAX_INT_BITS, MAX_OUTPUT, MAX_RANGE, Budget, LimitExceeded

_LAYOUT_FILTERS = ("batch", "center", "pprint", "slice", "striptags", "urlize", "wordwrap", "xmlattr")
_LAYOUT_METHODS = frozenset(
    ("center", "ljust", "rjust", "zfill", "expandtabs", "translate", "format_map", "encode", "to_bytes")
)
# Filters that turn their value into text, whatever it is.
_TEXT_FILTERS = (
    *("capitalize", "e", "escape", "forceescape", "lower", "safe", "string", "title", "trim", "truncate"),
    *("upper", "urlencode", "wordcount"),
)
_WIDE = re.compile(r"\*|\d{4}|:[^}]*\{")  # a width of four digits, or one taken from the arguments


class TemplateRefusal(TemplateError):
    """The template called `raise_exception`."""


class _Generator(CodeGenerator):
    """Writes code that measures `~`, literals and slices; they are plain Python in Jinja's own."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for item in node.nodes:
            self.visit(item, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._wrapped("counted", super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._wrapped("measured", super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._wrapped("measured", super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._wrapped("measured", super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _wrapped(
        self, name: str, visit: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame
    ) -> None:
        self.write(f"environment.{name}(")
        visit(node, frame)
        self.write(")")


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here it only groups."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Namespace(Namespace):
    """Jinja's `namespace`, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        attrs = dict(*rest, **kwargs)
        for name in attrs:
            _check_name(name)
        Namespace.__init__(self, attrs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """One environment per rendering. Hugging Face's settings: transformers, utils/chat_template_utils.py."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, budget: Budget) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, LoopControlExtension],
            finalize=self.measured,
            cache_size=0,
        )
        self.budget = budget
        for name in _LAYOUT_FILTERS:
            del self.filters[name]
        for name in self.filters:
            self.filters[name] = self._counting(self.filters[name])
        for name in _TEXT_FILTERS:
            self.filters[name] = self._spending(self.filters[name])
        for name in ("join", "replace", "indent", "format", "round", "sum"):
            self.filters[name] = self._guarded(name, self.filters[name])
        self.filters["tojson"] = self.tojson
        del self.globals["lipsum"]
        self.globals |= {
            "range": self.range,
            "dict": lambda *args, **kwargs: self.measured(dict(*args, **kwargs)),
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def measured(self, value: Any) -> Any:
        """`value`, once the size of all in it is spent."""
        self.budget.spend(self.budget.size(value))
        return value

    def counted(self, value: Any) -> Any:
        """`value`, once the number of its own characters or items is spent."""
        if isinstance(value, str | list | tuple | dict):
            self.budget.spend(len(value))
        return value

    def concat(self, parts: Iterable[Any]) -> str:
        """The parts as one text: for `~`, captured blocks and macros."""
        return "".join([str(self.measured(part)) for part in parts])

    def range(self, *args: int) -> range:
        """`range`, of at most 100,000 numbers."""
        numbers = range(*args)
        if numbers[MAX_RANGE:]:
            raise LimitExceeded(f"a range of more than {MAX_RANGE:,} numbers")
        return numbers

    def tojson(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """JSON without escapes for HTML."""
        self._check_width(indent)
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        return self.concat(encoder.iterencode(value))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            self._check_format(left, right)
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            self.budget.spend(len(left) + len(right))
        elif operator in ("*", "**"):
            self._check_power(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _LAYOUT_METHODS and super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"access to {attribute!r} of a {type(obj).__name__}")

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            args = __self._check_method(method.__name__, owner, args, kwargs)
        return __self.counted(super().call(__context, __obj, *args, **kwargs))

    def _check_method(
        self, name: str, text: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Spend what a string method makes; the arguments, with an iterator made a list."""
        if name == "join" and args:
            args = (self._join_items(args[0], text), *args[1:])
        elif name == "replace" and len(args) >= 2:
            self._check_replace(text, args[0], args[1])
        elif name == "format":
            self._check_format(text, (args, kwargs))
        self.budget.spend(len(text))
        return args

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)  # keeps Jinja's mark of what is passed first
        def count(*args: Any, **kwargs: Any) -> Any:
            return self.counted(function(*args, **kwargs))

        return count

    def _spending(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def spend(*args: Any, **kwargs: Any) -> Any:
            for arg in chain(args, kwargs.values()):
                self.measured(arg)
            return function(*args, **kwargs)

        return spend

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter whose result can be far larger than its arguments."""

        @wraps(function)
        def guard(*args: Any, **kwargs: Any) -> Any:
            skip = 1 if hasattr(function, "jinja_pass_arg") else 0
            first, (value, *rest) = args[:skip], args[skip:]
            if name == "join":
                value = self._join_items(value, str(self.measured(rest[0] if rest else kwargs.get("d", ""))))
            elif name == "replace":
                value = str(self.measured(value))
                old, new = [*rest, *(kwargs[key] for key in ("old", "new") if key in kwargs)][:2]
                self._check_replace(value, str(self.measured(old)), str(self.measured(new)))
            elif name == "format":
                value = str(self.measured(value))
                self._check_format(value, (rest, kwargs))
            elif name == "indent":
                width = rest[0] if rest else kwargs.get("width", 4)
                self._check_width(width)
                value = str(self.measured(value))
                self.budget.spend((value.count("\n") + 1) * (len(width) if isinstance(width, str) else width))
            elif name == "round":
                self._check_width(rest[0] if rest else kwargs.get("precision", 0))
            elif name == "sum" and not isinstance(kwargs.get("start", [*rest, 0, 0][1]), int | float):
                raise SecurityError("sum of something other than numbers")
            return function(*first, value, *rest, **kwargs)

        return guard

    def _join_items(self, items: Any, separator: str) -> list[Any]:
        found = []
        for item in items:
            self.budget.spend(len(separator))
            found.append(self.measured(item))
        return found

    def _check_replace(self, text: str, old: Any, new: Any) -> None:
        if isinstance(old, str) and isinstance(new, str):
            self.budget.spend(len(text) + text.count(old) * len(new))

    def _check_format(self, text: str, values: Any) -> None:
        if _WIDE.search(text):
            raise LimitExceeded("a format with a width of its own")
        marks = text.count("%") + text.count("{")
        self.budget.spend(len(text) + marks * (1000 + self.budget.size(values)))

    def _check_power(self, operator: str, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() + right.bit_length() if operator == "*" else left.bit_length() * right
            if bits > MAX_INT_BITS:
                raise LimitExceeded(f"an integer of more than {MAX_INT_BITS:,} bits")
        elif operator == "*":
            times, value = (left, right) if isinstance(left, int) else (right, left)
            if isinstance(times, int) and hasattr(value, "__len__"):
                self.budget.spend(max(times, 0) * self.budget.size(value))

    def _check_width(self, width: Any) -> None:
        if isinstance(width, int) and not -1000 < width < 1000:
            raise LimitExceeded("a width of 1,000 or more")


def render(template: str, variables: dict[str, Any]) -> str:
    """The template's output, of at most 4 Mi characters. Raises `LimitExceeded` and whatever Jinja does."""
    budget = Budget()
    # Compiling takes time linear in the template, and what it computes is spent too, so it goes unwatched.
    compiled = ChatEnvironment(budget).from_string(template)
    parts, length = [], 0
    with budget:
        for part in compiled.generate(variables):
            length += len(part)
            if length > MAX_OUTPUT:
                raise LimitExceeded(f"writing more than {MAX_OUTPUT:,} characters")
            parts.append(part)
    return "".join(parts)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace name that begins with an underscore: {name!r}")


def _raise_exception(message: object = "") -> None:
    raise TemplateRefusal(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > 200 or re.search(r"\d{3}", form):
        raise LimitExceeded("a date format with a width of its own")
    return datetime.now().strftime(form)
