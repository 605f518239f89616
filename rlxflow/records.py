"""Immutable records of what users write in configs and profiles. pydantic checks the values.

    class Sizes(Record):
        width: Annotated[int, Limits(gt=0)]
        act: Literal["gelu", "relu"] = "gelu"

Importing pydantic and building its validators takes a fifth of a small model's start, so it is imported only
where there is something to check: not for defaults, nor for what passed when an earlier process read it
from a file (see `passed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import FrozenInstanceError, fields
from enum import Enum
from functools import cache
from inspect import get_annotations
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    NoReturn,
    Self,
    TypeAlias,
    dataclass_transform,
    get_origin,
    get_type_hints,
)

from rlxflow.passed import recall, remember
from rlxflow.quick_dataclass import dataclass

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
    from pydantic_core import CoreSchema


Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """The bounds of a number, and whether it must be finite; or of the number of items in a list.

    pydantic reads it in annotations, as annotated-types' `GroupedMetadata`.
    """

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    finite: bool = False
    min_length: int | None = None
    max_length: int | None = None

    __is_annotated_types_grouped_metadata__: ClassVar[bool] = True

    def __iter__(self) -> Iterator[Any]:
        from pydantic import Field

        given = {f.name: getattr(self, f.name) for f in fields(self)}
        given["allow_inf_nan"] = False if given.pop("finite") else None
        info: Any = Field(**{name: bound for name, bound in given.items() if bound is not None})
        return iter(info.metadata)


@dataclass(frozen=True)
class FieldInfo:
    """One field: its type, default (`...`: it must be given), effect in words, and limits."""

    name: str
    type: Any
    default: Any
    effect: str = ""
    limits: Limits | None = None

    @property
    def checks(self) -> Any:
        """The type as pydantic is to check it; a text stands for the member of an enum."""
        from pydantic import Strict

        if isinstance(self.type, type) and issubclass(self.type, Enum):
            return Annotated[self.type, Strict(False)]
        return self.type if self.limits is None else Annotated[self.type, self.limits]


def described(*, default: Any, effect: str, limits: Limits | None = None) -> Any:
    """The default of a field, with what the field does and the limits of its values."""
    return FieldInfo("", None, default, effect, limits)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(described,))
class Record:
    """Immutable values by name, checked in pydantic's strict mode when the record is made.

    Fields are what is annotated, but `ClassVar`s and names that begin with `_`. A subclass says in `refuse`
    what is raised for values that do not fit, in `check` what must hold between fields, and in `others` of
    which type fields may be that are not declared (None: there are no others).
    """

    others: ClassVar[Any] = None

    if not TYPE_CHECKING:  # type checkers make one from the fields

        def __init__(self, **values: Any) -> None:
            self._fill(self.named(values), self._checked)

    @classmethod
    def of_file(cls, values: Values) -> Self:
        """The record of values from a file; pydantic does not check again those that passed it before."""
        made = cls.__new__(cls)
        made._fill(cls.named(values), made._checked_before)
        return made

    @classmethod
    def named(cls, values: Values) -> dict[str, Any]:
        """The values under the names of the fields they are for."""
        return dict(values)

    @classmethod
    @cache
    def fields(cls) -> Mapping[str, FieldInfo]:
        """Every field by name, those of base classes first."""
        hints = get_type_hints(cls, include_extras=True)
        found: dict[str, FieldInfo] = {}
        for base in reversed(cls.__mro__):
            for name in get_annotations(base):
                if name.startswith("_") or get_origin(hints[name]) is ClassVar:
                    continue
                default = vars(base).get(name, ...)
                info = default if isinstance(default, FieldInfo) else FieldInfo("", None, default)
                found[name] = FieldInfo(name, hints[name], info.default, info.effect, info.limits)
        return found

    @classmethod
    @cache
    def _identity(cls) -> str:
        return f"{cls.__module__}.{cls.__qualname__} {cls.others} {list(cls.fields().values())}"

    @classmethod
    @cache
    def _adapter(cls, others: tuple[str, ...]) -> TypeAdapter[dict[str, Any]]:
        from typing import NotRequired

        from pydantic import ConfigDict, TypeAdapter
        from typing_extensions import TypedDict

        checks = {
            f.name: f.checks if f.default is ... else NotRequired[f.checks] for f in cls.fields().values()
        }
        checks |= dict.fromkeys(others, NotRequired[cls.others])
        make: Any = TypedDict
        shape = make(cls.__name__, checks)
        shape.__pydantic_config__ = ConfigDict(strict=True, extra="forbid")
        return TypeAdapter(shape)

    def _checked(self, values: Values) -> dict[str, Any]:
        """The values as pydantic passes them."""
        from pydantic import ValidationError

        others = () if self.others is None else tuple(name for name in values if name not in self.fields())
        try:
            return self._adapter(others).validate_python(dict(values))
        except ValidationError as error:
            self.refuse(error)

    def _checked_before(self, values: Values) -> dict[str, Any]:
        """The same, as an earlier process kept them or as this one keeps them now."""
        checked = recall(self._identity(), values)
        if checked is None:
            checked = self._checked(values)
            remember(self._identity(), values, checked)
        return checked

    def _fill(self, values: Values, check: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Take defaults and records of the right class as they are, and the rest as `check` passes it."""
        fields = self.fields()
        made = {n: v for n, v in values.items() if isinstance(v, Record) and n in fields}
        made = {n: v for n, v in made.items() if type(v) is fields[n].type}
        left = {name: value for name, value in values.items() if name not in made}
        if left or any(f.default is ... for f in fields.values()):
            made.update(check(left))
        for field in fields.values():
            value = made.pop(field.name, field.default)
            if isinstance(field.default, Enum):  # kept as text
                value = type(field.default)(value)
            self.__dict__[field.name] = value
        self.__dict__.update(made, _given=frozenset(values))
        self.check()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Within another record: one of this class, or a dictionary of its values."""
        from pydantic_core import core_schema

        def made(value: Any) -> Any:
            return cls(**value) if isinstance(value, dict) else value

        return core_schema.no_info_before_validator_function(made, core_schema.is_instance_schema(cls))

    def refuse(self, error: ValidationError) -> NoReturn:
        """Raise what is to be raised for these values."""
        raise error

    def check(self) -> None:
        """Raise unless the fields agree with each other."""

    def items(self, given: bool = False) -> Iterator[tuple[str, Any]]:
        """Name and value of every field and of the others, or of those that were given."""
        for name, value in self.__dict__.items():
            if not name.startswith("_") and (not given or name in self.__dict__["_given"]):
                yield name, value

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and dict(self.items()) == dict(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in self.items())})"
