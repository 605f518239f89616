"""`dataclass` of the standard library, without writing and compiling six functions for every class.

A start makes 150 classes and uses half of them; the standard one takes half a millisecond for each, most
of it where they are frozen. Here all classes share `__eq__`, `__hash__`, `__repr__` and the refusal to be
changed, and `__init__` is compiled when it is first looked up. `fields`, `replace`, `asdict` and subclasses
that the standard decorator makes work as ever. To type checkers it is the standard one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, FrozenInstanceError, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, repr=True):
        """See `dataclasses.dataclass`. `__hash__` and `__eq__` take the fields that are compared."""
        if cls is None:
            return lambda decorated: _made(decorated, frozen, eq, repr)
        return _made(cls, frozen, eq, repr)


_WRITTEN = ("__init__", "__eq__", "__hash__", "__repr__")  # what a class may define itself


def _made(cls: Any, frozen: bool, eq: bool, repr: bool) -> Any:
    made = dict(vars(cls))
    own = {name: made[name] for name in _WRITTEN if made.get(name) is not None}
    refuses = frozen and any(p.frozen for b in cls.__mro__ if (p := getattr(b, "__dataclass_params__", None)))
    dataclasses.dataclass(init=False, eq=False, repr=False, frozen=refuses)(cls)
    vars(cls)["__dataclass_params__"].frozen = frozen  # standard subclasses look there
    methods: dict[str, Any] = {"__init__": _Init(cls)}
    if eq:
        names = [f.name for f in fields(cls) if f.compare]
        methods |= {"_compared": attrgetter("__class__", *(names or ["__class__"])), "__eq__": _equal}
        methods["__hash__"] = _hash if frozen else None
    if repr:
        methods["__repr__"] = _shown
    if frozen:
        methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
    for name, method in (methods | own).items():
        setattr(cls, name, method)
    return cls


def _equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return bool(self._compared(self) == self._compared(other))


def _hash(self: Any) -> int:
    return hash(self._compared(self))


@recursive_repr()
def _shown(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse(self: object, name: str, *value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")


class _Init:
    """Stands for the `__init__` of a class until that is looked up."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def __get__(self, instance: object, owner: type) -> Any:
        init = _compiled_init(self.cls)
        self.cls.__init__ = init  # type: ignore[misc]
        return init.__get__(instance, owner)


class _Fresh:
    """The default of a parameter for which a factory makes one."""

    def __repr__(self) -> str:
        return "<factory>"


_FRESH = _Fresh()


def _compiled_init(cls: Any) -> Any:
    """`def __init__(self, a, b=default, …): _set(self, 'a', a); …`; only names of fields become code."""
    scope: dict[str, Any] = {"_set": object.__setattr__, "_FRESH": _FRESH, "__name__": cls.__module__}
    by_place, by_name, body = ["self"], ["*"], []
    for f in fields(cls):
        name, value = f.name, f.name
        fresh = f.default_factory is not MISSING
        if fresh:
            scope[f"_new_{name}"] = f.default_factory
            value = f"_new_{name}() if {name} is _FRESH else {name}" if f.init else f"_new_{name}()"
        if f.init:
            scope[f"_default_{name}"] = _FRESH if fresh else f.default
            optional = fresh or f.default is not MISSING
            (by_name if f.kw_only else by_place).append(name + f"=_default_{name}" * optional)
        if f.init or fresh:
            body.append(f"_set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    head = ", ".join(by_place + (by_name if len(by_name) > 1 else []))
    exec(f"def __init__({head}):\n " + "\n ".join(body or ["pass"]), scope)  # noqa: S102
    init = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {f.name: f.type for f in fields(cls) if f.init} | {"return": None}
    return init
