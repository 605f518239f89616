"""Any bytes either make a profile or raise ProfileError; any profile survives TOML and keeps its hash."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import tomli
from hypothesis import given, settings, strategies as st

from rlxflow.errors import ProfileError
from rlxflow.profile import CompileProfile, load_profile, preset_names, with_overrides
from rlxflow.profile.document import Document
from rlxflow.profile.keys import keys
from rlxflow.profile.load import load_path
from rlxflow.profile.locate import MAX_PARTS, key_positions

SMALL = b"""\xef\xbb\xbf# a small valid profile
version = 1
extends = "exact"
[fusion]
policy = "fusable"   # or direct
attention_threshold = 0x20
[passes]
rules = { fuse-swiglu = false, "fused-gate-up" = true }
"""


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], CompileProfile | None]:
    """Loads bytes as a file; None where they were refused properly."""
    path = tmp_path_factory.mktemp("fuzz") / "p.rlx.toml"

    def load_bytes(raw: bytes) -> CompileProfile | None:
        path.write_bytes(raw)
        try:
            return load_path(path)
        except ProfileError as error:
            assert error.code.startswith("RLX-P0")
            assert error.hint
            assert error.where.startswith((str(path), "exact.rlx.toml"))
            return None

    return load_bytes


def test_every_truncation_loads_or_is_refused(load: Callable[[bytes], CompileProfile | None]) -> None:
    loaded = [load(SMALL[:end]) for end in range(len(SMALL) + 1)]
    assert loaded[-1] is not None
    assert loaded[-1].fusion.attention_threshold == 32
    assert 10 < sum(profile is not None for profile in loaded) < len(loaded) - 10


def test_every_byte_flip_loads_or_is_refused(load: Callable[[bytes], CompileProfile | None]) -> None:
    refused = 0
    for at in range(len(SMALL)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            refused += load(SMALL[:at] + bytes([SMALL[at] ^ flip]) + SMALL[at + 1 :]) is None
    assert refused > len(SMALL)


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=60) | st.text("[]{}=.,\"'#\\\n afusion1tre", max_size=60).map(str.encode))
def test_arbitrary_bytes_load_or_are_refused(
    load: Callable[[bytes], CompileProfile | None], raw: bytes
) -> None:
    load(raw)


def _any_value(key: Any) -> st.SearchStrategy[Any]:
    if key.choices:
        return st.sampled_from(key.choices)
    if key.type is float:
        return st.integers(0, 10**6).map(lambda n: n / 10**6)
    return st.integers(*key.bounds) if key.bounds else st.booleans()


def _profile_of(values: dict[str, Any]) -> CompileProfile | None:
    texts = [f"{key}={str(value).lower()}" for key, value in values.items()]
    try:
        return with_overrides(CompileProfile(), texts)
    except ProfileError as error:
        assert error.code == "RLX-P005"  # each value is valid, so only together can they be wrong
        return None


values = st.fixed_dictionaries({}, optional={name: _any_value(key) for name, key in keys().items()})


@settings(max_examples=200, deadline=None)
@given(values=values)
def test_dump_and_load_is_the_identity(values: dict[str, Any]) -> None:
    profile = _profile_of(values)
    if profile is None:
        return
    again = CompileProfile.from_toml_str(profile.to_toml())
    assert again == profile
    assert again.hash() == profile.hash()
    assert hash(again) == hash(profile)
    assert {key: profile.values()[key] for key in values} == values


@settings(max_examples=100, deadline=None)
@given(one=values, other=values)
def test_hashes_are_equal_exactly_when_profiles_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = _profile_of(one), _profile_of(other)
    if first is not None and second is not None:
        assert (first.hash() == second.hash()) == (first == second)


def test_every_single_key_changes_the_hash() -> None:
    seen = {CompileProfile().hash()}
    for key in keys().values():
        if key.choices:
            value = next(choice for choice in key.choices if choice != key.default)
        elif key.bounds:
            value = 7 if key.type is int else 0.7
        else:
            value = not key.default
        seen.add(with_overrides(CompileProfile(), [f"{key.name}={str(value).lower()}"]).hash())
    assert len(seen) == len(keys()) + 1


def test_the_hash_is_the_same_in_every_process() -> None:
    program = (
        "from rlxflow.profile import CompileProfile, preset_names\n"
        "print(*[CompileProfile.preset(name).hash() for name in preset_names()])\n"
    )
    here = " ".join(CompileProfile.preset(name).hash() for name in preset_names())
    for seed in ("0", "1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-W", "error", "-c", program]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert ran.stdout.split() == here.split()


def test_the_hash_is_this_one() -> None:
    """Pinned: a new key or another default changes every hash, and should be noticed."""
    assert CompileProfile().hash() == "5e7c285c7bcbf05c"
    assert CompileProfile.preset("exact").hash() == CompileProfile().hash()


# The scan that finds lines, against tomli: both must see the same keys.


def _paths(table: dict[str, Any]) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name, value in table.items():
        found.add((name,))
        if isinstance(value, dict):
            found |= {(name, *rest) for rest in _paths(value)}
    return found


_word = st.sampled_from(["fusion", "a", "b-c", '"x y"', "'q.r'", '"\\u0041"', "1", "true"])
_key = st.lists(_word, min_size=1, max_size=3).map(".".join)
_plain = st.sampled_from(
    [
        "1",
        "-1.5e3",
        "true",
        "inf",
        '"a = 1 # ["',
        "'''\n[x]\ny = '1'\n'''",
        '"""\n{a = 1}\\""""',
        "2020-01-02",
    ]
)
_value = st.recursive(
    _plain,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[\n" + ", # c ]\n".join(items) + "\n]")
        | st.lists(st.tuples(_word, inner), max_size=3, unique_by=lambda pair: pair[0]).map(
            lambda pairs: "{ " + ", ".join(f"{name} = {value}" for name, value in pairs) + " }"
        )
    ),
    max_leaves=5,
)
_line = (
    st.tuples(_key, _value).map(lambda pair: f"{pair[0]} = {pair[1]}")
    | _key.map(lambda key: f"[{key}]")
    | _key.map(lambda key: f"  [[ {key} ]] # c")
    | st.sampled_from(["# [no] = 1", "", "\t"])
)


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(_line, max_size=8))
def test_the_scan_finds_every_key_that_tomli_finds(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    found = key_positions(text)
    assert {path for path in _paths(data) if len(path) <= MAX_PARTS} <= set(found)
    rows = text.split("\n")
    for path, (line, column) in found.items():
        at = rows[line - 1][column - 1 :]
        assert at.startswith(("[", '"', "'", *path)), (path, at)


def test_positions_do_not_depend_on_who_asks() -> None:
    document = Document.of_text("[a]\n  b.c = { d = 1 }\n[a.b]\nd = 2", "t")
    assert document.place("a", "b") == "t:2:3"
    assert document.place("a", "b", "c", "d") == "t:2:11"
    assert document.place("no") == "t"


def test_load_profile_is_idempotent() -> None:
    once = load_profile("decode", ["fusion.skip=true"], environment={"RLX_FUSE_ATTN_THRESHOLD": "9"})
    twice = load_profile(once, environment={"RLX_FUSE_ATTN_THRESHOLD": "9"})
    assert twice == once
    assert all(twice.origin(key) == once.origin(key) for key in keys())
