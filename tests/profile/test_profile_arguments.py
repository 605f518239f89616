"""Overrides, names and Python arguments are as strict as files (ids T6, T12)."""

from __future__ import annotations

import pytest

from rlxflow.errors import ProfileError
from rlxflow.profile import CompileProfile, FusionProfile, PrecisionProfile, load_profile


@pytest.mark.parametrize(
    ("make", "code", "where"),
    [
        pytest.param(
            lambda: FusionProfile(polcy="direct"), "RLX-P003", "fusion.polcy", id="T3-python-unknown"
        ),
        pytest.param(lambda: FusionProfile(policy="fast"), "RLX-P004", "fusion.policy", id="T5-python-name"),
        pytest.param(lambda: CompileProfile(fusion=3), "RLX-P004", "fusion", id="T4-python-section"),
        pytest.param(
            lambda: CompileProfile(precision={"compute": float("nan")}),
            "RLX-P004",
            "precision.compute",
            id="T4-python-nan",
        ),
        pytest.param(
            lambda: CompileProfile(fusion=FusionProfile(skip=True, assert_clean=True)),
            "RLX-P005",
            "fusion.skip",
            id="T6-python",
        ),
    ],
)
def test_python_arguments_are_as_strict(make, code, where) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ProfileError) as caught:
        make()
    assert caught.value.code == code
    assert caught.value.details["problems"][0]["key"] == where
    assert caught.value.hint


def test_T6_rules_do_not_need_one_another() -> None:
    text = "[passes.rules]\nfuse-attention-block = false\nfuse-transformer-layer = true\n"
    rules = CompileProfile.from_toml_str(text).passes.rules
    assert (rules.enabled("fuse-attention-block"), rules.enabled("fuse-transformer-layer")) == (False, True)


# T12: overrides


@pytest.mark.parametrize(
    ("override", "code", "hint"),
    [
        pytest.param("fusion.policy", "RLX-P009", "fusion.policy=fusable", id="T12-no-equals"),
        pytest.param("", "RLX-P009", "fusion.policy=fusable", id="T12-empty"),
        pytest.param("=fusable", "RLX-P009", "fusion.policy=fusable", id="T12-no-key"),
        pytest.param("fusion.polcy=fusable", "RLX-P003", "did you mean 'policy'?", id="T12-typo"),
        pytest.param("policy=fusable", "RLX-P003", "belongs in [fusion]", id="T12-no-section"),
        pytest.param("fusion=fusable", "RLX-P004", "under [fusion]", id="T12-section"),
        pytest.param("extends=exact", "RLX-P003", "name the profile itself", id="T12-extends"),
        pytest.param("a.b.c.d=1", "RLX-P003", "", id="T12-deep"),
        pytest.param("fusion.policy=fast", "RLX-P004", "one of direct, fusable", id="T12-name"),
        pytest.param("fusion.policy=", "RLX-P004", "one of direct, fusable", id="T12-no-value"),
        pytest.param("fusion.skip=yes", "RLX-P004", "write true or false", id="T12-bool"),
        pytest.param("fusion.skip=True", "RLX-P004", "write true", id="T12-python-bool"),
        pytest.param("backend.cpu.threads=two", "RLX-P004", "a whole number", id="T12-int"),
        pytest.param("backend.cpu.threads=2.0", "RLX-P004", "a whole number", id="T12-float"),
        pytest.param(f"backend.cpu.threads={'9' * 9999}", "RLX-P004", "", id="T12-long-int"),
        pytest.param("fusion.skip=true\nfusion.policy=x", "RLX-P004", "true or false", id="T12-two-lines"),
        pytest.param("fusion.assert_clean=true", "RLX-P005", "remove one", id="T12-contradiction"),
    ],
)
def test_T12_bad_override(override: str, code: str, hint: str) -> None:
    profile = CompileProfile.from_toml_str("[fusion]\nskip = true", "p.toml")
    with pytest.raises(ProfileError) as caught:
        load_profile(profile, [override], environment={})
    assert caught.value.code == code
    assert caught.value.hint
    assert hint in caught.value.hint
    assert caught.value.where.startswith("p.toml:2:1" if code == "RLX-P005" else "--set")


@pytest.mark.parametrize("value", ["many", "-1", "64.0", "9" * 5000, "1_000", "\N{ARABIC-INDIC DIGIT SIX}"])
def test_T12_bad_environment_variable(value: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile("encoder", environment={"RLX_FUSE_ATTN_THRESHOLD": value})
    assert (caught.value.code, caught.value.where) == ("RLX-P004", "RLX_FUSE_ATTN_THRESHOLD")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["", "encodr", "exact\0", "x" * 10_000, "\ud800", ".."])
def test_unknown_preset(name: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile(name, environment={})
    assert caught.value.code == "RLX-P008"
    assert "did you mean" in caught.value.hint or "the presets are" in caught.value.hint
    assert caught.value.message.isprintable()


def test_a_profile_of_no_kind() -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile(3, environment={})  # type: ignore[arg-type]
    assert caught.value.code == "RLX-P008"
    assert "encoder" in caught.value.hint


def test_sections_refuse_assignment() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PrecisionProfile().compute = "f16"  # type: ignore[misc,assignment]
