"""Records: what their fields take, what they say, and when pydantic is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn

import pytest
from pydantic import ValidationError

from rlxflow import passed
from rlxflow.disk_cache import CACHE_VARIABLE
from rlxflow.records import FieldInfo, Limits, Record, described


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Record):
    color: Color = described(default=Color.RED, effect="What it looks like.")


class Outer(Record):
    section: ClassVar[str] = "outer"
    width: Annotated[int, Limits(gt=0)]
    inner: Inner = Inner()
    size: int = described(default=3, effect="How large it is.", limits=Limits(ge=1, le=9))
    scale: Annotated[float, Limits(finite=True)] | None = None
    sides: Annotated[list[int], Limits(min_length=1, max_length=2)] = [1]  # noqa: RUF012


class Wide(Outer):
    """Takes texts of any other name; a field keeps its place."""

    others: ClassVar[Any] = str
    depth: int = 0
    size: int = 5
    kind: Literal["a", "b"] = "a"

    def refuse(self, error: ValidationError) -> NoReturn:
        raise ValueError(*[(e["loc"][0], e["type"]) for e in error.errors()])

    def check(self) -> None:
        if self.depth > self.width:
            raise ValueError("deeper than wide")


def test_fields() -> None:
    found = Wide.fields()
    assert list(found) == ["width", "inner", "size", "scale", "sides", "depth", "kind"]
    assert (found["width"].default, found["size"].default, found["kind"].default) == (..., 5, "a")
    assert Outer.fields()["size"] == FieldInfo("size", int, 3, "How large it is.", Limits(ge=1, le=9))


def test_a_record() -> None:
    made = Wide(width=2, more="text", inner={"color": "blue"}, scale=1)
    assert (made.width, made.inner.color, made.size, made.scale) == (2, Color.BLUE, 5, 1.0)
    assert type(made.scale) is float
    assert set(dict(made.items(given=True))) == {"width", "more", "inner", "scale"}
    assert repr(Inner()) == f"Inner(color={Color.RED!r})"
    assert Inner() == Inner(color=Color.RED) != Inner(color=Color.BLUE)
    assert len({Inner(), Inner(color=Color.RED)}) == 1
    with pytest.raises(FrozenInstanceError):
        made.width = 3  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del made.width  # type: ignore[misc]


@pytest.mark.parametrize("make", [lambda values: Wide(**values), Wide.of_file], ids=["python", "file"])
def test_every_fault_is_told_at_once(make: Callable[[dict[str, Any]], Wide]) -> None:
    wrong = {
        "depth": "x",
        "more": 1,
        "size": 10.5,
        "inner": 1,
        "scale": float("nan"),
        "sides": [],
        "kind": "c",
    }
    with pytest.raises(ValueError, match="depth") as caught:
        make(wrong)
    assert dict(caught.value.args) == {
        "width": "missing",
        "inner": "is_instance_of",
        "size": "int_type",
        "scale": "finite_number",
        "sides": "too_short",
        "depth": "int_type",
        "kind": "literal_error",
        "more": "string_type",
    }
    for _ in range(2):
        with pytest.raises(ValueError, match="deeper"):
            make({"width": 1, "depth": 2})
    with pytest.raises(ValidationError, match="not permitted"):
        Outer(width=1, more=2)  # type: ignore[call-arg]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    passed._kept.cache_clear()
    return tmp_path / "cache"


def again(**values: Any) -> Wide:
    """What another process would read."""
    passed._kept.cache_clear()
    return Wide.of_file(values)


def refuse_pydantic(cls: Any, others: tuple[str, ...]) -> NoReturn:
    raise LookupError


def test_what_passed_is_not_checked_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Wide.of_file({"width": 2, "scale": 4, "more": "x"})
    monkeypatch.setattr(Wide, "_adapter", classmethod(refuse_pydantic))
    assert again(width=2, scale=4, more="x") == made
    assert type(again(width=2, scale=4, more="x").scale) is float
    for other in ({"width": 2.0}, {"width": True}, {"width": 3}, {"width": 2, "scale": 4, "more": "y"}):
        with pytest.raises(LookupError):
            again(**other)


def test_another_class_checks_again(folder: Path) -> None:
    class Narrow(Record):
        width: int

    Narrow.of_file({"width": -1})
    with pytest.raises(ValueError, match="greater_than"):
        again(width=-1)


@pytest.mark.parametrize("spoil", [b"", b"{", b"[]", b"\xff", b"[" * 5000, None])
def test_whatever_is_wrong_with_the_file_costs_a_check(folder: Path, spoil: bytes | None) -> None:
    made = Wide.of_file({"width": 2})
    path = folder / passed.NAME
    if spoil is None:
        path.write_bytes(path.read_bytes().replace(b'"width": 2', b'"width": 7'))
    else:
        passed.keep(path, "spoilt", spoil)
    assert again(width=2) == made == again(width=2)


def test_values_that_are_no_json_are_checked_each_time(folder: Path) -> None:
    deep: Any = []
    for _ in range(3000):
        deep = [deep]
    for value in ((1,), [1, (2,)], {1: 2}, 10**5000, deep, object()):
        assert passed.recall("checks", {"a": value}) is None
        passed.remember("checks", {"a": value}, {})
    assert not (folder / passed.NAME).exists()


def test_the_latest_are_kept(folder: Path) -> None:
    for i in range(passed.MOST + 9):
        passed.remember("checks", {"a": i}, {"a": i})
    kept = passed.read_kept(folder / passed.NAME)
    assert kept is not None and len(json.loads(kept[1])) == passed.MOST
    assert passed.recall("checks", {"a": 8}) is None
    assert passed.recall("checks", {"a": 9}) == {"a": 9}


def test_without_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")
    passed.remember("checks", {"a": 1}, {"a": 1})
    assert passed.recall("checks", {"a": 1}) is None and Wide.of_file({"width": 2}).width == 2


def test_a_profile_read_before_needs_no_pydantic(folder: Path) -> None:
    program = (
        "import sys\nfrom rlxflow.profile import load_profile\n"
        "profile = load_profile('encoder', ['precision.mixed=int8', 'passes.rules.fuse-swiglu=false'])\n"
        "print('pydantic' in sys.modules, profile.hash(), repr(profile.precision.mixed))"
    )
    environment = {**os.environ, CACHE_VARIABLE: str(folder)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout.split(maxsplit=1)
        for _ in range(2)
    )
    assert (first[0], second[0]) == ("True", "False") and first[1] == second[1]
