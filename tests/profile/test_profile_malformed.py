"""Every way a profile can be wrong: each case asserts the code, the place and the hint.

Case ids: T1 bytes, T2 duplicates, T3 unknown keys, T4 types, T5 names, T6 contradictions, T7 rules,
T8 extends, T9 version, T10 empty files, T11 files, T12 overrides, T13 line ends and tabs.
"""

from __future__ import annotations

import os
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest

from rlxflow.errors import ProfileError
from rlxflow.profile import CompileProfile, FusionProfile, PrecisionProfile, RuleProfile, load_profile


@dataclass(frozen=True)
class Bad:
    """A profile file that must be refused: its bytes, and what the error must say."""

    id: str
    content: str | bytes
    code: str
    place: str  # "line:column" in the file, or "" for the file alone
    hint: str  # a part of the hint
    message: str = ""  # a part of the message


BYTES = [
    Bad("T1-not-utf8", b"[fusion]\nskip = \xff\n", "RLX-P002", "2:8", "save the file as UTF-8", "0xff"),
    Bad("T1-utf16", "skip = true".encode("utf-16"), "RLX-P002", "1:1", "UTF-8"),
    Bad("T1-latin1-comment", b"# caf\xe9\n", "RLX-P002", "1:6", "UTF-8"),
    Bad("T1-nul", "[fusion]\nskip = true\0\n", "RLX-P002", "2:12", ""),
    Bad("T1-control-character", "# \x07\n", "RLX-P002", "1:3", "remove the character"),
    Bad("T1-bad-date", "[fusion]\nskip = 2024-13-45\n", "RLX-P002", "2:12", "key = value"),
    Bad("T1-date-for-bool", "[fusion]\nskip = 2024-01-02\n", "RLX-P004", "2:1", "true or false", "a date"),
    Bad("T1-5000-digit-int", f"version = {'9' * 5000}", "RLX-P002", "", "fits the key", "too many digits"),
    Bad(
        "T1-huge-hex-int",
        f"[backend.cpu]\nthreads = 0x{'f' * 9000}",
        "RLX-P004",
        "2:1",
        "at most 1024",
        "bits",
    ),
    Bad(
        "T1-5000-deep-array", f"a = {'[' * 5000}{']' * 5000}", "RLX-P002", "", "sections and keys", "too deep"
    ),
    Bad("T1-5000-deep-table", f"a = {'{a = ' * 5000}1{'}' * 5000}", "RLX-P002", "", "", "too deep"),
    Bad("T1-5000-deep-dotted-key", f"{'a.' * 5000}a = 1", "RLX-P002", "", "", "too deep"),
    Bad(
        "T1-500-keys-of-900-parts", f"k{'.a' * 900} = 1\n" * 500, "RLX-P002", "", "sections and keys", "dots"
    ),
    Bad(
        "T1-20-keys-of-900-parts",
        "".join(f"k{i}{'.a' * 900} = 1\n" for i in range(20)),
        "RLX-P003",
        "1:1",
        "",
    ),
    Bad("T1-array-300-deep", f"fusion = {'[' * 300}{']' * 300}", "RLX-P004", "1:1", "[fusion]", "a list"),
    Bad("T1-too-large", b"#" * (1 << 20) + b"\n", "RLX-P010", "", "right file"),
    Bad("T1-no-value", "[fusion]\nskip =", "RLX-P002", "2:7", "key = value"),
    Bad("T1-no-quotes", "[fusion]\npolicy = direct\n", "RLX-P002", "2:10", 'policy = "direct"'),
    Bad("T1-open-string", '[fusion]\npolicy = "direct\n', "RLX-P002", "2:17", "close the quotes"),
    Bad("T1-json", '{"fusion": {"skip": true}}', "RLX-P002", "1:1", "[section]"),
    Bad("T2-duplicate-key", "[fusion]\nskip = true\nskip = false\n", "RLX-P002", "3:13", "written twice"),
    Bad("T2-duplicate-section", "[fusion]\n[passes]\n[fusion]\n", "RLX-P002", "3:8", "written twice"),
    Bad("T2-dotted-and-section", "fusion.skip = true\n[fusion]\n", "RLX-P002", "2:8", "written twice"),
]

KEYS = [
    Bad("T3-unknown-section", "\n[precison]\n", "RLX-P003", "2:1", "did you mean [precision]?"),
    Bad(
        "T3-far-section",
        "[infer]\nmode = 1",
        "RLX-P003",
        "1:1",
        "[fusion], [passes]",
        "unknown section [infer]",
    ),
    Bad("T3-inner-section-at-top", "[cpu]\nthreads = 1", "RLX-P003", "1:1", "did you mean [backend.cpu]?"),
    Bad("T3-rules-at-top", "[rules]", "RLX-P003", "1:1", "did you mean [passes.rules]?"),
    Bad("T3-array-of-tables", "[[precison]]", "RLX-P003", "1:1", "did you mean [precision]?"),
    Bad(
        "T3-misspelt-key", "[fusion]\n  polcy = 1", "RLX-P003", "2:3", "did you mean 'policy'?", "in [fusion]"
    ),
    Bad("T3-key-of-another-section", "[fusion]\ncompute = 1", "RLX-P003", "2:1", "belongs in [precision]"),
    Bad(
        "T3-key-of-two-sections",
        "[fusion]\nunfuse_regions = 1",
        "RLX-P003",
        "2:1",
        "[backend.cpu] or [backend.m",
    ),
    Bad("T3-misspelt-in-another", "[fusion]\nthread = 1", "RLX-P003", "2:1", "'threads' in [backend.cpu]"),
    Bad(
        "T3-key-before-sections",
        'policy = "direct"',
        "RLX-P003",
        "1:1",
        "belongs in [fusion]",
        "before the first",
    ),
    Bad("T3-misspelt-header", 'extend = "exact"', "RLX-P003", "1:1", "did you mean 'extends'?"),
    Bad("T3-key-with-dash", "[passes]\nconstant-folding = true", "RLX-P003", "2:1", "'constant_folding'"),
    Bad("T3-far-key", "[fusion]\nzzzz = 1", "RLX-P003", "2:1", "the keys here are policy, target"),
    Bad("T3-dotted-key", "fusion.polcy = 1", "RLX-P003", "1:1", "did you mean 'policy'?"),
    Bad(
        "T3-inline-table", "fusion = { skip = true, polcy = 1 }", "RLX-P003", "1:25", "did you mean 'policy'?"
    ),
    Bad("T3-quoted-dotted-key", '"fusion.skip" = true', "RLX-P003", "1:1", ""),
    Bad(
        "T3-escaped-key",
        '[fusion]\n"pol\\u0063y" = 1',
        "RLX-P003",
        "2:1",
        "did you mean 'policy'?",
        "'polcy'",
    ),
    Bad("T3-control-in-key", '[fusion]\n"a\\u001b[31m" = 1', "RLX-P003", "2:1", "", r"\x1b"),
    Bad("T3-megabyte-key", f"[fusion]\n{'a' * 900_000} = 1", "RLX-P003", "2:1", "", "900000 characters"),
    Bad(
        "T3-after-long-string",
        '[fusion]\npolicy = """\n[x]\ny = 1\n"""\nz = 1',
        "RLX-P003",
        "6:1",
        "keys here",
    ),
    Bad("T3-after-array", "[fusion]\nskip = [\n  1, # ]\n]\nz = 1", "RLX-P003", "5:1", "keys here"),
    Bad(
        "T3-metal-typo",
        "[backend.metl]\nskip_fusion = true",
        "RLX-P003",
        "1:1",
        "did you mean [backend.metal]?",
    ),
]

VALUES = [
    Bad("T4-text-for-bool", '[fusion]\nskip = "true"', "RLX-P004", "2:1", "write true without quotes"),
    Bad("T4-text-for-number", '[precision]\nmin_cosine = "0.9"', "RLX-P004", "2:1", "a number"),
    Bad("T4-number-too-large", "[precision]\nmin_cosine = 1.5", "RLX-P004", "2:1", "at most 1", "not 1.5"),
    Bad("T4-number-nan", "[precision]\nmin_cosine = nan", "RLX-P004", "2:1", "a number", "not nan"),
    Bad("T4-int-for-bool", "[fusion]\nskip = 1", "RLX-P004", "2:1", "write true or false", "not 1"),
    Bad(
        "T4-float-for-int", "[fusion]\nattention_threshold = 64.0", "RLX-P004", "2:1", "write 64", "not 64.0"
    ),
    Bad("T4-fraction-for-int", "[fusion]\nattention_threshold = 6.5", "RLX-P004", "2:1", "a whole number"),
    Bad(
        "T4-text-for-int",
        '[fusion]\nattention_threshold = "64"',
        "RLX-P004",
        "2:1",
        "write 64 without quotes",
    ),
    Bad("T4-bool-for-int", "[backend.cpu]\nthreads = true", "RLX-P004", "2:1", "a whole number", "not true"),
    Bad("T4-inf", "[backend.cpu]\nthreads = inf", "RLX-P004", "2:1", "a whole number", "not inf"),
    Bad("T4-nan", "[backend.cpu]\nthreads = nan", "RLX-P004", "2:1", "a whole number", "not nan"),
    Bad("T4-negative", "[backend.cpu]\nthreads = -1", "RLX-P004", "2:1", "at least 0"),
    Bad("T4-too-many-threads", "[backend.cpu]\nthreads = 99999", "RLX-P004", "2:1", "at most 1024"),
    Bad("T4-int-for-name", "[precision]\ncompute = 32", "RLX-P004", "2:1", "one of f32, f16, bf16"),
    Bad("T4-list-for-name", '[precision]\ncompute = ["f32"]', "RLX-P004", "2:1", "one of f32", "a list"),
    Bad("T4-table-for-name", "[fusion.policy]\nx = 1", "RLX-P004", "1:1", "direct, fusable", "a table"),
    Bad("T4-value-for-section", "fusion = 3", "RLX-P004", "1:1", "under [fusion]", "a section, not 3"),
    Bad("T4-list-for-section", "[[fusion]]\nskip = true", "RLX-P004", "1:1", "under [fusion]", "not a list"),
    Bad("T4-value-for-inner-section", "[backend]\ncpu = 4", "RLX-P004", "2:1", "under [backend.cpu]"),
    Bad("T5-typo", '[fusion]\npolicy = "fusible"', "RLX-P004", "2:1", "did you mean 'fusable'?"),
    Bad("T5-wrong-case", '[fusion]\npolicy = "DIRECT"', "RLX-P004", "2:1", "did you mean 'direct'?"),
    Bad("T5-space", '[fusion]\npolicy = " direct"', "RLX-P004", "2:1", "did you mean 'direct'?"),
    Bad("T5-other-spelling", '[precision]\ncompute = "bfloat16"', "RLX-P004", "2:1", "did you mean 'bf16'?"),
    Bad("T5-far", '[precision]\nmixed = "fast"', "RLX-P004", "2:1", "none, auto, int8"),
    Bad("T5-kv-cache", '[precision]\nkv_cache = "fp16"', "RLX-P004", "2:1", "did you mean 'f16'?"),
    Bad("T5-backend", '[backend]\nname = "refrence"', "RLX-P004", "2:1", "did you mean 'reference'?"),
    Bad("T5-control-character", '[fusion]\npolicy = "a\\u001b\\n"', "RLX-P004", "2:1", "one of", r"\x1b\n"),
    Bad(
        "T6-assert-clean-with-skip",
        "[fusion]\nassert_clean = true\nskip = true",
        "RLX-P005",
        "3:1",
        "remove one of the two",
    ),
    Bad(
        "T6-assert-clean-without-rules",
        "[fusion]\nassert_clean = true\n[passes.rules]\n"
        + "".join(f"{name.replace('_', '-')} = false\n" for name in RuleProfile.fields()),
        "RLX-P005",
        "2:1",
        "switch a rule on",
    ),
    Bad(
        "T6-precision-the-backend-lacks",
        '[precision]\ncompute = "f16"\n[backend]\nname = "reference"',
        "RLX-P005",
        "2:1",
        'backend.name = "auto"',
    ),
    Bad(
        "T7-rule-twice", f"[passes.rules]\n{'fuse-swiglu = true' + chr(10)}" * 2, "RLX-P002", "3:14", "twice"
    ),
    Bad(
        "T7-unknown-rule",
        "[passes.rules]\nfuse-swigl = true",
        "RLX-P003",
        "2:1",
        "did you mean 'fuse-swiglu'?",
    ),
    Bad("T7-rule-in-snake-case", "[passes.rules]\nfuse_swiglu = true", "RLX-P003", "2:1", "'fuse-swiglu'"),
    Bad("T7-class-name", "[passes.rules]\nFuseSwiGLU = true", "RLX-P003", "2:1", ""),
    Bad("T7-rule-outside", "[passes]\nfuse-swiglu = true", "RLX-P003", "2:1", "belongs in [passes.rules]"),
    Bad("T7-rule-option", "[passes.rules]\nfuse-swiglu = { max = 3 }", "RLX-P004", "2:1", "true or false"),
    Bad("T7-after", '[passes.rules]\nafter = ["a"]', "RLX-P003", "2:1", ""),
    Bad("T7-rule-named-off", '[passes.rules]\nfuse-swiglu = "off"', "RLX-P004", "2:1", "true or false"),
]

EXTENDS_AND_VERSION = [
    Bad("T8-missing-preset", '\nextends = "encodr"', "RLX-P006", "2:1", "did you mean 'encoder'?"),
    Bad("T8-missing-file", 'extends = "no.rlx.toml"', "RLX-P006", "1:1", "relative to this profile"),
    Bad("T8-self", 'extends = "bad.rlx.toml"', "RLX-P006", "1:1", "remove one extends", "bad.rlx.toml -> "),
    Bad("T8-parent-directory", 'extends = "../bad.rlx.toml"', "RLX-P006", "1:1", "copy that profile"),
    Bad("T8-absolute", 'extends = "/etc/x.toml"', "RLX-P006", "1:1", "copy that profile", "leads out"),
    Bad("T8-nul-in-name", 'extends = "a\\u0000.toml"', "RLX-P006", "1:1", ""),
    Bad("T8-long-name", f'extends = "{"a" * 5000}.toml"', "RLX-P006", "1:1", ""),
    Bad("T8-directory", 'extends = "dir.toml"', "RLX-P006", "1:1", "", "a directory"),
    Bad("T8-not-a-text", "extends = 3", "RLX-P004", "1:1", 'extends = "encoder"'),
    Bad(
        "T8-two-parents", 'extends = ["exact", "encoder"]', "RLX-P004", "1:1", 'extends = "encoder"', "a list"
    ),
    Bad("T8-extends-in-section", '[fusion]\nextends = "exact"', "RLX-P003", "2:1", ""),
    Bad("T8-preset-by-path", 'extends = "../profiles/exact"', "RLX-P006", "1:1", ""),
    Bad("T9-newer", "version = 2\n[future]\nkey = 1", "RLX-P007", "1:1", "upgrade rlxflow"),
    Bad("T9-zero", "version = 0", "RLX-P004", "1:1", "version = 1"),
    Bad("T9-text", 'version = "1"', "RLX-P004", "1:1", "version = 1"),
    Bad("T9-bool", "version = true", "RLX-P004", "1:1", "version = 1"),
    Bad("T9-huge", f"version = 0x{'f' * 9000}", "RLX-P007", "1:1", "upgrade", "bits"),
    Bad("T10-one-bad-word", "hello", "RLX-P002", "1:6", "key = value"),
    Bad("T13-crlf", "# one\r\n[fusion]\r\nskip = 1\r\n", "RLX-P004", "3:1", "true or false"),
    Bad("T13-bare-carriage-return", "[fusion]\rskip = true", "RLX-P002", "1:9", ""),
    Bad("T13-tabs", "[fusion]\n\t\tskip\t=\t1", "RLX-P004", "2:3", "true or false"),
    Bad("T13-bom-then-error", "\ufeff[fusion]\nskip = 1", "RLX-P004", "2:1", "true or false"),
    Bad("T13-unicode-before", "# ✓ é 日本\nfusion = {} # ü\nz = 1", "RLX-P003", "3:1", ""),
]

CASES = [*BYTES, *KEYS, *VALUES, *EXTENDS_AND_VERSION]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_bad_file_is_refused_with_code_place_and_hint(case: Bad, tmp_path: Path) -> None:
    path = tmp_path / "bad.rlx.toml"
    path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    (tmp_path / "dir.toml").mkdir()
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_path(path)
    error = caught.value
    assert error.code == case.code
    assert error.where == (f"{path}:{case.place}" if case.place else str(path))
    assert error.hint
    assert case.hint in error.hint
    assert case.message in error.message
    for line in (error.message, error.hint):
        assert line.isprintable()
        assert len(line) < 700


def test_case_ids_are_unique() -> None:
    ids = [case.id for case in CASES]
    assert len(set(ids)) == len(ids) > 100


def test_T3_all_problems_are_reported_each_at_its_place() -> None:
    text = "[fusion]\npolcy = 1\nskip = true\n[precison]\n[passes]\nfuse-swiglu = true\n"
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_str(text, "p.toml")
    found = [(entry["where"], entry["code"]) for entry in caught.value.details["problems"]]
    assert found == [("p.toml:2:1", "RLX-P003"), ("p.toml:4:1", "RLX-P003"), ("p.toml:6:1", "RLX-P003")]
    assert caught.value.message.endswith("(and 2 more)")


def test_T4_wrong_values_of_several_sections_are_reported_together() -> None:
    text = '[fusion]\nskip = 1\n[precision]\ncompute = "f8"\n[backend.cpu]\nthreads = 1.5\n'
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_str(text, "p.toml")
    places = {entry["where"] for entry in caught.value.details["problems"]}
    assert places == {"p.toml:2:1", "p.toml:4:1", "p.toml:6:1"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("".join(f"key{i} = 1\n" for i in range(60_000)), id="T3-60000-keys"),
        pytest.param(
            "fusion = {" + ", ".join(f"k{i} = {{}}" for i in range(50_000)) + "}", id="T3-50000-tables"
        ),
    ],
)
def test_a_megabyte_of_unknown_keys_is_refused(text: str) -> None:
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_str(text)
    assert (caught.value.code, len(caught.value.details["problems"])) == ("RLX-P003", 20)
    assert caught.value.hint


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


# T8: chains of files


def _chain(folder: Path, length: int, last: str) -> Path:
    for i in range(length):
        text = f'extends = "{i + 1}.toml"\n' if i + 1 < length else last
        (folder / f"{i}.toml").write_text(text)
    return folder / "0.toml"


def test_T8_cycle_names_the_files(tmp_path: Path) -> None:
    start = _chain(tmp_path, 3, 'extends = "1.toml"')
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_path(start)
    assert caught.value.code == "RLX-P006"
    assert caught.value.where == f"{tmp_path}/2.toml:1:1"
    assert "1.toml ->" in caught.value.message
    assert caught.value.hint == "remove one extends line"


def test_T8_eight_files_deep_is_the_limit(tmp_path: Path) -> None:
    allowed, refused = tmp_path / "a", tmp_path / "b"
    allowed.mkdir()
    refused.mkdir()
    assert CompileProfile.from_toml_path(_chain(allowed, 9, "[fusion]\nskip = true")).fusion.skip
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_path(_chain(refused, 10, "[fusion]\nskip = true"))
    assert caught.value.code == "RLX-P006"
    assert caught.value.where == f"{refused}/8.toml:1:1"
    assert "merge some" in caught.value.hint


def test_T8_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "outside.toml").write_text("[fusion]\nskip = true")
    (home / "link.toml").symlink_to(tmp_path / "outside.toml")
    (home / "loop.toml").symlink_to(home / "loop.toml")
    for name in ("link.toml", "loop.toml"):
        (home / "p.toml").write_text(f'extends = "{name}"')
        with pytest.raises(ProfileError) as caught:
            CompileProfile.from_toml_path(home / "p.toml")
        assert caught.value.code == "RLX-P006"
        assert caught.value.where == f"{home}/p.toml:1:1"
        assert caught.value.hint


def test_T8_a_folder_below_may_be_extended_and_may_look_back(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.toml").write_text("[fusion]\nskip = true")
    (tmp_path / "sub" / "mid.toml").write_text('extends = "../base.toml"')
    (tmp_path / "p.toml").write_text('extends = "sub/mid.toml"')
    assert CompileProfile.from_toml_path(tmp_path / "p.toml").fusion.skip


def test_T8_a_mistake_in_the_extended_file_points_there_even_when_overridden(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[fusion]\n\nskip = 1")
    (tmp_path / "p.toml").write_text('extends = "base.toml"\n[fusion]\nskip = true')
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_path(tmp_path / "p.toml")
    assert (caught.value.code, caught.value.where) == ("RLX-P004", f"{tmp_path}/base.toml:3:1")
    assert "true or false" in caught.value.hint


def test_T8_contradiction_across_files_points_at_the_later_one(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[fusion]\nassert_clean = true")
    (tmp_path / "p.toml").write_text('extends = "base.toml"\n\n[fusion]\nskip = true')
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_path(tmp_path / "p.toml")
    assert (caught.value.code, caught.value.where) == ("RLX-P005", f"{tmp_path}/p.toml:4:1")
    assert "remove one" in caught.value.hint


def test_T8_text_has_no_directory() -> None:
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_str('extends = "base.toml"')
    assert (caught.value.code, caught.value.where) == ("RLX-P006", "<text>:1:1")
    assert "by its name" in caught.value.hint


# T10, T11, T13: whole files


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"# nothing\n", b"\xef\xbb\xbf", b"[fusion]", b"version = 1"], ids=repr
)
def test_T10_an_empty_file_is_the_defaults(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.rlx.toml"
    path.write_bytes(content)
    assert CompileProfile.from_toml_path(path) == CompileProfile()


def _refused_path(path: str | Path) -> ProfileError:
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_path(path)
    assert caught.value.code == "RLX-P001"
    assert caught.value.hint
    return caught.value


def test_T11_missing_directory_and_strange_names(tmp_path: Path) -> None:
    assert "no such file" in _refused_path(tmp_path / "no.toml").message
    assert "rlxflow profile list" in _refused_path(tmp_path / "no.toml").hint
    assert "a directory" in _refused_path(tmp_path).message
    assert _refused_path(tmp_path / "a\0b").where.isprintable()
    assert "too long" in _refused_path(tmp_path / ("x" * 5000)).message


def test_T11_a_pipe_or_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", Path("/dev/zero")):
        assert "regular file" in _refused_path(path).message


def test_T11_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "p.toml").write_text("")
    monkeypatch.setattr(Path, "open", refuse)  # a mode of 000 would not stop root
    assert "permission denied" in _refused_path(tmp_path / "p.toml").message


def test_T13_crlf_tabs_bom_and_locale_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    text = '# é\n[fusion]\n\tpolicy\t=\t"fusable"\t# ✓\n'
    plain = CompileProfile.from_toml_str(text)
    path = tmp_path / "p.toml"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    windows = CompileProfile.from_toml_path(path)
    assert windows == plain
    assert windows.origin("fusion.policy").where == f"{path}:3:2"


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
        pytest.param("extends=exact", "RLX-P003", "extends", id="T12-extends"),
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
    with pytest.raises(FrozenInstanceError, match="cannot assign"):
        PrecisionProfile().compute = "f16"  # type: ignore[misc,assignment]
