"""CompileProfile: how a flow is compiled, as one immutable value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from os import PathLike
from typing import Any, ClassVar, Self

from pydantic import PrivateAttr, model_validator

from rlxflow.profile.kinds import BackendKind, KvCacheKind, MixedPrecisionKind, PrecisionKind
from rlxflow.profile.origins import DEFAULT, PYTHON, Origin
from rlxflow.profile.problems import Problem, profile_error
from rlxflow.profile.sections import (
    BackendOverrides,
    FusionProfile,
    PassProfile,
    PrecisionProfile,
    Section,
)


class CompileProfile(Section):
    """Everything a user decides about compilation; what TOML may say, Python may say.

    Two profiles are equal when all their values are, wherever these came from. Raises ProfileError
    (RLX-P003 unknown key, RLX-P004 wrong value, RLX-P005 settings that contradict each other).
    """

    section: ClassVar[str] = ""

    fusion: FusionProfile = FusionProfile()
    passes: PassProfile = PassProfile()
    precision: PrecisionProfile = PrecisionProfile()
    backend: BackendOverrides = BackendOverrides()

    _source: str = PrivateAttr(default="")
    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        problems = list(_contradictions(self))
        if problems:
            raise profile_error(problems)
        return self

    @classmethod
    def preset(cls, name: str) -> CompileProfile:
        """The shipped profile of that name; RLX-P008 where there is none."""
        from rlxflow.profile.load import load_preset

        return load_preset(name)

    @classmethod
    def from_toml_str(cls, text: str, source: str = "<text>") -> CompileProfile:
        """A profile from TOML text; `source` names it in errors. It may extend presets, not files."""
        from rlxflow.profile.load import load_text

        return load_text(text, source)

    @classmethod
    def from_toml_path(cls, path: str | PathLike[str]) -> CompileProfile:
        """A profile from a TOML file. No environment variable is read here; `load_profile` reads them."""
        from rlxflow.profile.load import load_path

        return load_path(path)

    def to_toml(self) -> str:
        """The whole profile as TOML, defaults included; `from_toml_str` gives an equal profile back."""
        from rlxflow.profile.write import to_toml

        return to_toml(self)

    @property
    def source(self) -> str:
        """What the profile was loaded from: a preset's name, a path, or "" where it was made in Python."""
        return self._source

    def values(self) -> dict[str, Any]:
        """Every value by dotted key, in the order of the documentation; names as plain text."""
        flat: dict[str, Any] = {}
        _flatten(self.model_dump(mode="json", by_alias=True), "", flat)
        return flat

    def origin(self, key: str) -> Origin:
        """Where the value of a dotted key comes from."""
        if self._source or self._origins:
            return self._origins.get(key, DEFAULT)
        return PYTHON if key in _explicit(self) else DEFAULT

    def remember(self, source: str, origins: dict[str, Origin]) -> None:
        """Note where the profile and its values came from; for the loader, on a profile just made."""
        self._source, self._origins = source, origins

    def hash(self) -> str:
        """16 hex digits over all values: the same for equal profiles, in any process, on any machine."""
        canonical = json.dumps(self.values(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=8, person=b"rlx-profile-1").hexdigest()

    def trades(self) -> tuple[str, ...]:
        """What this profile gives up for speed or memory, one line each; empty: nothing."""
        return tuple(_trades(self.precision))

    @property
    def least_cosine(self) -> float:
        """The accuracy guaranteed: `precision.min_cosine`, or what the other keys allow."""
        precision = self.precision
        if precision.min_cosine:
            return precision.min_cosine
        if precision.mixed is MixedPrecisionKind.INT8:
            return 0.95
        whole = precision.model_copy(update={"paired_products": False})
        return 0.999 if tuple(_trades(whole)) else 0.999999

    @property
    def exact(self) -> bool:
        """True where everything is f32 and no activation is quantised."""
        return not self.trades()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CompileProfile):
            return NotImplemented
        return self.values() == other.values()

    def __hash__(self) -> int:
        return hash(self.hash())


def _flatten(table: dict[str, Any], prefix: str, into: dict[str, Any]) -> None:
    for name, value in table.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{name}.", into)
        else:
            into[prefix + name] = value


def _explicit(profile: CompileProfile) -> set[str]:
    """The dotted keys that a profile made in Python was given."""
    flat: dict[str, Any] = {}
    _flatten(profile.model_dump(mode="json", by_alias=True, exclude_unset=True), "", flat)
    return set(flat)


def _contradictions(profile: CompileProfile) -> Iterable[Problem]:
    fusion, precision = profile.fusion, profile.precision
    rules = profile.passes.rules.model_dump()
    if fusion.assert_clean and fusion.skip:
        yield Problem(
            "RLX-P005",
            "fusion.skip",
            "fusion.assert_clean = true contradicts fusion.skip = true: nothing would fuse",
            "remove one of the two",
        )
    elif fusion.assert_clean and not any(rules.values()):
        yield Problem(
            "RLX-P005",
            "fusion.assert_clean",
            "fusion.assert_clean = true contradicts [passes.rules], where every rule is off",
            "switch a rule on, or set fusion.assert_clean = false",
        )
    if profile.backend.name is BackendKind.REFERENCE and precision.compute is not PrecisionKind.F32:
        yield Problem(
            "RLX-P005",
            "precision.compute",
            f'precision.compute = "{precision.compute}": backend.name = "reference" is f32 only',
            'set precision.compute = "f32", or backend.name = "auto"',
        )


def _trades(precision: PrecisionProfile) -> Iterable[str]:
    if precision.compute is not PrecisionKind.F32:
        yield f"weights kept in {precision.compute} (precision.compute)"
    if precision.mixed is MixedPrecisionKind.AUTO:
        yield "half precision where it is safe (precision.mixed)"
    if precision.mixed is MixedPrecisionKind.INT8:
        yield "linear layers may quantise their activations to int8 (precision.mixed)"
    if precision.paired_products:
        yield "f32 products of two elements at a time, which round more (precision.paired_products)"
    if precision.kv_cache is KvCacheKind.F16:
        yield "keys and values cached in f16 (precision.kv_cache)"
