"""The quick `dataclass` beside the standard library's, on the same class bodies."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, fields, replace
from typing import Any, ClassVar

import pytest

from rlxflow.quick_dataclass import dataclass as quick

Decorator = Callable[..., Any]
BOTH = pytest.mark.parametrize("decorator", [dataclasses.dataclass, quick], ids=["standard", "quick"])
FORMS = [
    {},
    {"frozen": True},
    {"eq": False},
    {"repr": False},
    {"frozen": True, "eq": False, "repr": False},
]


def pair(decorator: Decorator, form: dict[str, bool]) -> tuple[Any, Any]:
    @decorator(**form)
    class Base:
        """A base."""

        kind: ClassVar[str] = "kind"
        a: int
        b: list[int] = field(default_factory=list)
        c: str = field(default="c", compare=False, repr=False)

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("negative")

    @decorator(**form)
    class Derived(Base):
        """Derived from it."""

        d: float = 1.5
        e: str = field(default="e", kw_only=True)
        f: int = field(default=7, init=False)

    return Base, Derived


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_it_is_the_standard_one(form: dict[str, bool]) -> None:
    for standard, ours in zip(pair(dataclasses.dataclass, form), pair(quick, form), strict=True):
        assert str(inspect.signature(ours)) == str(inspect.signature(standard))
        assert ours.__match_args__ == standard.__match_args__
        assert [f.name for f in fields(ours)] == [f.name for f in fields(standard)]
        one, two = ours(1, c="x"), ours(1, c="y")
        expected, other = standard(1, c="x"), standard(1, c="y")
        if form.get("repr", True):
            assert repr(one) == repr(expected)
        assert (one == two, one != two, one == 3) == (expected == other, expected != other, expected == 3)
        assert (ours.__hash__ is None) == (standard.__hash__ is None)
        assert vars(replace(one, a=5)) == vars(replace(expected, a=5))
        assert dataclasses.asdict(one) == dataclasses.asdict(expected)
        assert one.b == [] and one.b is not two.b
        for fault in ({"a": -1}, {"b": []}, {"a": 1, "unknown": 2}):
            with pytest.raises((ValueError, TypeError)) as found:
                ours(**fault)
            with pytest.raises(found.type, match=str(found.value).replace("(", r"\(").replace(")", r"\)")):
                standard(**fault)


@BOTH
def test_frozen_means_frozen(decorator: Decorator) -> None:
    for kind in pair(decorator, {"frozen": True}):
        made = kind(1)
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'a'"):
            made.a = 2
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'a'"):
            del made.a
        assert made == copy.copy(made) == copy.deepcopy(made)


@BOTH
def test_equal_means_equal_hashes(decorator: Decorator) -> None:
    @decorator(frozen=True)
    class Kind:
        """One field that is compared."""

        a: object
        b: int = field(default=0, compare=False)

    @decorator(frozen=True)
    class Other(Kind):
        """The same fields."""

    nan = float("nan")
    assert Kind(nan) == Kind(nan)  # compared within tuples
    assert {Kind(1, 2), Kind(1, 3)} == {Kind(1)} and hash(Kind(1, 2)) == hash(Kind(1))
    assert Kind(1) != Other(1) and Kind(1) != Kind(2)


@BOTH
def test_what_a_class_writes_itself_stays(decorator: Decorator) -> None:
    @decorator(frozen=True)
    class Own:
        """Writes all it can."""

        a: int = 0

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 5

    @decorator(frozen=True)
    class Equal:
        """Writes how it compares; the hash is made."""

        a: int = 0

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

    assert (repr(Own()), hash(Own()), Own(1) == Own(2)) == ("own", 5, True)
    assert Equal(1) == Equal(2) and hash(Equal(1)) == hash(Equal(1))


def test_standard_subclasses() -> None:
    @quick(frozen=True)
    class Base:
        """Ours."""

        a: int

    @dataclasses.dataclass(frozen=True)
    class Derived(Base):
        b: int = 2

    @quick(frozen=True)
    class Last(Derived):
        """Ours again."""

        c: int = 3

    assert repr(Last(1)).endswith("Last(a=1, b=2, c=3)") and Derived(1) == Derived(1, 2)
    with pytest.raises(FrozenInstanceError):
        Last(1).c = 4  # type: ignore[misc]
    with pytest.raises(TypeError, match="non-frozen"):

        @quick
        class Wrong(Base):  # type: ignore[misc]
            """May change what its base must not."""


def test_threads_may_make_the_first_instance() -> None:
    for _ in range(50):

        @quick(frozen=True)
        class Kind:
            """New each time."""

            a: int
            b: int = 2

        made: list[Any] = []
        threads = [threading.Thread(target=lambda made=made, kind=Kind: made.append(kind(1))) for _ in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made == [Kind(1), Kind(1)]
