"""Compile profiles: strict TOML files that say how a flow is compiled.

Names are loaded when first used, so that the words in `kinds` cost no import of pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlxflow.profile.kinds import (
        BackendKind as BackendKind,
        FusionPolicyKind as FusionPolicyKind,
        FusionTargetKind as FusionTargetKind,
        KvCacheKind as KvCacheKind,
        MixedPrecisionKind as MixedPrecisionKind,
        PrecisionKind as PrecisionKind,
    )
    from rlxflow.profile.load import load_profile as load_profile, with_overrides as with_overrides
    from rlxflow.profile.model import CompileProfile as CompileProfile
    from rlxflow.profile.origins import Origin as Origin, OriginKind as OriginKind
    from rlxflow.profile.presets import preset_names as preset_names
    from rlxflow.profile.reference import (
        preset_summary as preset_summary,
        preset_table as preset_table,
        profile_schema as profile_schema,
        profile_table as profile_table,
    )
    from rlxflow.profile.sections import (
        BackendOverrides as BackendOverrides,
        CpuBackendProfile as CpuBackendProfile,
        FusionProfile as FusionProfile,
        MetalBackendProfile as MetalBackendProfile,
        PassProfile as PassProfile,
        PrecisionProfile as PrecisionProfile,
        RuleProfile as RuleProfile,
    )
    from rlxflow.profile.view import (
        EffectiveValue as EffectiveValue,
        effective as effective,
        effective_dict as effective_dict,
        effective_text as effective_text,
    )

_NAMES = {
    "kinds": "BackendKind FusionPolicyKind FusionTargetKind KvCacheKind MixedPrecisionKind PrecisionKind",
    "load": "load_profile with_overrides",
    "model": "CompileProfile",
    "origins": "Origin OriginKind",
    "presets": "preset_names",
    "reference": "preset_summary preset_table profile_schema profile_table",
    "sections": "BackendOverrides CpuBackendProfile FusionProfile MetalBackendProfile PassProfile "
    "PrecisionProfile RuleProfile",
    "view": "EffectiveValue effective effective_dict effective_text",
}
_HOME_OF = {name: home for home, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME_OF)
