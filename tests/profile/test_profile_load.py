"""Loading: presets, files of existing projects, layers and their order, the effective view."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rlxflow.profile as public
from rlxflow.codes import CODES
from rlxflow.errors import ProfileError
from rlxflow.profile import (
    BackendOverrides,
    CompileProfile,
    CpuBackendProfile,
    FusionPolicyKind,
    FusionProfile,
    FusionTargetKind,
    MetalBackendProfile,
    MixedPrecisionKind,
    OriginKind,
    PassProfile,
    PrecisionKind,
    PrecisionProfile,
    RuleProfile,
    effective,
    effective_dict,
    effective_text,
    load_profile,
    preset_names,
    profile_schema,
    with_overrides,
)

THRESHOLD = "RLX_FUSE_ATTN_THRESHOLD"

# Files of existing projects: every documented key, and the meaning each must keep.
LEGACY = {
    "everything": (
        """
        [fusion]
        policy = "fusable"
        target = "metal"
        assert_clean = true
        skip = false
        [passes]
        dce = false
        constant_folding = false
        verbose = true
        [precision]
        compute = "bf16"
        mixed = "auto"
        [backend.metal]
        skip_fusion = true
        unfuse_regions = true
        [backend.cpu]
        unfuse_regions = true
        """,
        CompileProfile(
            fusion=FusionProfile(
                policy=FusionPolicyKind.FUSABLE, target=FusionTargetKind.METAL, assert_clean=True
            ),
            passes=PassProfile(dce=False, constant_folding=False, verbose=True),
            precision=PrecisionProfile(compute=PrecisionKind.BF16, mixed=MixedPrecisionKind.AUTO),
            backend=BackendOverrides(
                metal=MetalBackendProfile(skip_fusion=True, unfuse_regions=True),
                cpu=CpuBackendProfile(unfuse_regions=True),
            ),
        ),
    ),
    "gemma": ("[passes]\ndce = false\n", CompileProfile(passes=PassProfile(dce=False))),
    "skip": ("[fusion]\nskip = true\n", CompileProfile(fusion=FusionProfile(skip=True))),
    "empty": ("", CompileProfile()),
    "one-line": (
        "fusion = { policy = 'fusable' }\nbackend.metal.skip_fusion = true",
        CompileProfile(
            fusion=FusionProfile(policy=FusionPolicyKind.FUSABLE),
            backend=BackendOverrides(metal=MetalBackendProfile(skip_fusion=True)),
        ),
    ),
}


@pytest.mark.parametrize("name", LEGACY)
def test_files_of_existing_projects_keep_their_meaning(name: str) -> None:
    text, meaning = LEGACY[name]
    assert CompileProfile.from_toml_str(text) == meaning


def test_the_documented_defaults() -> None:
    documented = {
        "fusion.policy": "direct",
        "fusion.target": "auto",
        "fusion.assert_clean": False,
        "fusion.skip": False,
        "fusion.attention_threshold": 64,
        "passes.dce": True,
        "passes.constant_folding": True,
        "passes.verbose": False,
        "precision.compute": "f32",
        "precision.mixed": "none",
        "backend.metal.skip_fusion": False,
        "backend.metal.unfuse_regions": False,
        "backend.cpu.unfuse_regions": False,
    }
    assert documented.items() <= CompileProfile().values().items()
    assert " ".join(FusionTargetKind) == "auto cpu metal mlx cuda rocm wgpu tpu"
    assert [kind.value for kind in PrecisionKind] == ["f32", "f16", "bf16"]
    assert [kind.value for kind in MixedPrecisionKind] == ["none", "auto", "int8"]


def test_values_have_their_types() -> None:
    profile = CompileProfile.preset("decode")
    assert profile.fusion.policy is FusionPolicyKind.FUSABLE
    assert profile.precision.mixed is MixedPrecisionKind.INT8
    assert profile.fusion.attention_threshold == 64


# Presets


@pytest.mark.parametrize("name", preset_names())
def test_preset(name: str) -> None:
    profile = CompileProfile.preset(name)
    assert profile.source == name
    assert load_profile(name, environment={}) == profile
    summary = public.preset_summary(name)
    assert 20 < len(summary) < 130
    assert ("Trades nothing" in summary) == profile.exact


def test_the_names_people_know_resolve() -> None:
    known = {"exact", "encoder", "prefill", "decode", "llama32_prefill", "llama32_decode"}
    assert known | {"qwen35_prefill", "qwen35_decode"} <= set(preset_names())
    assert CompileProfile.preset("llama32_prefill") == CompileProfile()
    fusable = CompileProfile(fusion=FusionProfile(policy=FusionPolicyKind.FUSABLE))
    assert CompileProfile.preset("llama32_decode") == fusable
    assert CompileProfile.preset("qwen35_decode") == fusable


def test_every_profile_guarantees_an_accuracy() -> None:
    exact = CompileProfile.preset("exact")
    assert (exact.least_cosine, CompileProfile.preset("decode").least_cosine) == (0.999999, 0.95)
    assert CompileProfile.preset("encoder").least_cosine == 0.999999
    for override, least in (("compute=bf16", 0.999), ("mixed=auto", 0.999), ("mixed=int8", 0.95),
                            ("kv_cache=f16", 0.999), ("min_cosine=0.5", 0.5)):  # fmt: skip
        assert with_overrides(exact, [f"precision.{override}"]).least_cosine == least


def test_exact_is_f32_with_nothing_quantised() -> None:
    profile = CompileProfile.preset("exact")
    assert profile.exact
    assert profile.trades() == ()
    values = profile.values()
    assert (values["precision.compute"], values["precision.mixed"], values["precision.kv_cache"]) == (
        "f32",
        "none",
        "f32",
    )
    for override in ("compute=bf16", "compute=f16", "mixed=auto", "mixed=int8", "kv_cache=f16",
                     "paired_products=true"):  # fmt: skip
        traded = with_overrides(profile, [f"precision.{override}"])
        assert not traded.exact
        assert len(traded.trades()) == 1


def test_importing_the_package_and_its_words_imports_no_pydantic() -> None:
    program = (
        "import sys, rlxflow.profile\n"
        "from rlxflow.profile import FusionPolicyKind\n"
        "sys.exit('pydantic' in sys.modules or 'tomli' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], env=dict(os.environ), check=False).returncode == 0


def test_every_public_name_is_there_once() -> None:
    for name in dir(public):
        assert getattr(public, name) is not None
    with pytest.raises(AttributeError, match="nothing_here"):
        public.nothing_here


# Layers


def test_layers_override_one_another_in_order(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'extends = "encoder"\n[fusion]\nattention_threshold = 10\nskip = true\n[passes]\ndce = false\n'
    )
    (tmp_path / "p.toml").write_text('extends = "base.toml"\n[fusion]\nattention_threshold = 20\n')
    path = tmp_path / "p.toml"
    profile = load_profile(path, environment={})
    assert profile.fusion.attention_threshold == 20
    assert profile.fusion.skip
    assert str(profile.origin("fusion.attention_threshold")) == f"{path}:3:1"
    assert str(profile.origin("passes.dce")) == f"{tmp_path}/base.toml:6:1 (extends)"
    assert str(profile.origin("precision.compute")) == "exact.rlx.toml:5:1 (extends)"
    assert profile.origin("backend.name").kind is OriginKind.DEFAULT

    profile = load_profile(str(path), environment={THRESHOLD: "30"})
    assert profile.fusion.attention_threshold == 30
    assert str(profile.origin("fusion.attention_threshold")) == THRESHOLD

    profile = load_profile(path, ["fusion.attention_threshold=40"], environment={THRESHOLD: "30"})
    assert profile.fusion.attention_threshold == 40
    assert profile.origin("fusion.attention_threshold").kind is OriginKind.OVERRIDE
    assert load_profile(profile, environment={THRESHOLD: "30"}).fusion.attention_threshold == 40


def test_a_file_may_extend_the_preset_of_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "encoder.rlx.toml"
    path.write_text('extends = "encoder"\n[fusion]\nskip = true')
    assert load_profile(path, environment={}).fusion.skip


def test_the_environment_is_read_by_load_profile_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THRESHOLD, " 7 ")
    assert load_profile("encoder").fusion.attention_threshold == 7
    assert load_profile(CompileProfile()).fusion.attention_threshold == 7
    assert CompileProfile.preset("encoder").fusion.attention_threshold == 64
    assert CompileProfile.from_toml_str("").fusion.attention_threshold == 64
    monkeypatch.setenv(THRESHOLD, "")
    assert load_profile("encoder").fusion.attention_threshold == 64


def test_a_profile_made_in_python_says_so() -> None:
    profile = CompileProfile(fusion=FusionProfile(skip=True), passes=PassProfile(rules=RuleProfile()))
    assert profile.origin("fusion.skip").kind is OriginKind.PYTHON
    assert profile.origin("fusion.policy").kind is OriginKind.DEFAULT
    changed = with_overrides(profile, ["passes.rules.fuse-swiglu=false"])
    assert changed.origin("fusion.skip").kind is OriginKind.PYTHON
    assert not changed.passes.rules.enabled("fuse-swiglu")
    assert changed == CompileProfile(
        fusion=FusionProfile(skip=True), passes=PassProfile(rules=RuleProfile(fuse_swiglu=False))
    )


def test_a_later_override_wins() -> None:
    profile = with_overrides(CompileProfile(), ["fusion.policy=fusable", ' fusion.policy = "direct" '])
    assert profile.fusion.policy is FusionPolicyKind.DIRECT


def test_equality_and_hash_ignore_where_values_come_from(tmp_path: Path) -> None:
    text = '[fusion]\npolicy = "fusable"\n'
    (tmp_path / "p.toml").write_text("# elsewhere\n" + text)
    made = CompileProfile(fusion=FusionProfile(policy=FusionPolicyKind.FUSABLE))
    loaded = [CompileProfile.from_toml_str(text), CompileProfile.from_toml_path(tmp_path / "p.toml")]
    assert {made, *loaded} == {made}
    assert {profile.hash() for profile in loaded} == {made.hash()}
    assert made != CompileProfile()
    assert made != "fusable"


def test_rules_that_the_sections_do_not_list() -> None:
    text = "[passes.rules]\nfuse-embedding-norm = false\n[passes.max_tokens]\nfuse-swiglu = 32\n"
    profile = CompileProfile.from_toml_str(text, "p.toml")
    assert not profile.passes.rules.enabled("fuse-embedding-norm")
    assert profile.passes.rules.enabled("fuse-swiglu") and profile.passes.max_tokens.limits() == {
        "fuse-swiglu": 32
    }
    assert str(profile.origin("passes.max_tokens.fuse-swiglu")) == "p.toml:4:1"
    assert CompileProfile.from_toml_str(profile.to_toml()) == profile != CompileProfile()
    assert profile == with_overrides(
        CompileProfile(), ["passes.rules.fuse-embedding-norm=false", "passes.max_tokens.fuse-swiglu=32"]
    )
    assert profile.passes.rules == RuleProfile(fuse_embedding_norm=False)


@pytest.mark.parametrize("section", ["passes.rules", "passes.max_tokens"])
def test_an_unknown_rule_is_refused_with_the_nearest_name(section: str) -> None:
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_str(f"[{section}]\nfuse-swigloo = 1\n", "p.toml")
    assert (caught.value.code, caught.value.where) == ("RLX-P003", "p.toml:2:1")
    assert "fuse-swiglu" in caught.value.hint
    with pytest.raises(ProfileError, match="fuse-swigloo"):
        RuleProfile(fuse_swigloo=True)


@pytest.mark.parametrize("value", ["-1", "1000001", "true", '"5"', "5.0"])
def test_a_limit_is_a_number_in_range(value: str) -> None:
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_str(f"[passes.max_tokens]\nfuse-swiglu = {value}\n", "p.toml")
    assert (caught.value.code, caught.value.where) == ("RLX-P004", "p.toml:2:1")


# The effective view


def test_the_view_names_what_has_no_effect() -> None:
    text, _ = LEGACY["everything"]
    profile = CompileProfile.from_toml_str(text, "old.rlx.toml")
    notes = {entry.key: entry.without_effect for entry in effective(profile)}
    assert notes["backend.metal.skip_fusion"] == "there is no Metal backend"
    assert "backend" in notes["fusion.target"]
    assert notes["fusion.policy"] == ""
    assert "backend.metal.skip_fusion" in {
        entry.key for entry in effective(CompileProfile()) if entry.without_effect
    }


def test_what_skip_makes_pointless_is_said() -> None:
    profile = with_overrides(
        CompileProfile(),
        ["fusion.skip=true", "fusion.attention_threshold=9", "passes.rules.fuse-swiglu=false"],
    )
    notes = {entry.key: entry.without_effect for entry in effective(profile)}
    assert notes["fusion.attention_threshold"] == "fusion.skip is true"
    assert notes["passes.rules.fuse-swiglu"] == "fusion.skip is true"
    assert notes["fusion.skip"] == ""


def test_the_view_as_text() -> None:
    profile = load_profile("decode", ["fusion.skip=true"], environment={THRESHOLD: "5"})
    lines = effective_text(profile).splitlines()
    assert lines[0] == f"profile  decode   hash {profile.hash()}"
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines[1:-2]}
    assert list(rows) == list(profile.values())
    assert rows["fusion.policy"] == ['"fusable"', "decode.rlx.toml:6:1"]
    assert rows["fusion.skip"] == ["true", "--set fusion.skip=true"]
    assert rows["fusion.attention_threshold"][1].startswith(THRESHOLD)
    assert rows["precision.mixed"][1].startswith("prefill.rlx.toml:9:1 (extends)")
    assert lines[-2].startswith("trades   linear layers may quantise")
    assert lines[-1].startswith("trades   keys and values cached in f16")
    assert effective_text(CompileProfile()).splitlines()[-1].startswith("trades   nothing")


def test_the_view_as_data_is_json() -> None:
    profile = load_profile("encoder", environment={})
    data = json.loads(json.dumps(effective_dict(profile)))
    assert data["hash"] == profile.hash()
    assert data["exact"] is False and data["trades"] == list(profile.trades())
    assert data["values"]["fusion.attention_threshold"] == {
        "value": 64,
        "origin": "file",
        "where": "encoder.rlx.toml:7:1",
        "without_effect": "",
    }


def test_the_schema_knows_every_section_and_forbids_the_rest() -> None:
    schema = json.loads(json.dumps(profile_schema()))
    assert set(schema["properties"]) == {"version", "extends", "fusion", "passes", "precision", "backend"}
    assert schema["additionalProperties"] is False
    assert "fuse-swiglu" in schema["$defs"]["RuleProfile"]["properties"]
    by_rule = {"RuleProfile": "boolean", "MaxTokensProfile": "integer"}
    for name, table in schema["$defs"].items():
        if name in by_rule:
            assert table["additionalProperties"]["type"] == by_rule[name]
        elif "Pro" in name:
            assert table["additionalProperties"] is False


def test_every_profile_code_is_documented() -> None:
    folder = Path(public.__file__).parent
    used = {
        word[:8]
        for file in folder.glob("*.py")
        for word in file.read_text().split('"')
        if word[:5] == "RLX-P"
    }
    assert used == {code for code in CODES if code.startswith("RLX-P")}
    assert ProfileError.__doc__
