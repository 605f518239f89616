"""Every way a profile can be wrong: each case asserts the code, the place and the hint.

Case ids: T1 bytes, T2 duplicates, T3 unknown keys, T4 types, T5 names, T6 contradictions, T7 rules,
T8 extends (chains: `test_profile_chains.py`), T9 version, T10, T11, T13 files (`test_profile_files.py`), T12
overrides (`test_profile_arguments.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from rlxflow.errors import ProfileError
from rlxflow.profile import CompileProfile, RuleProfile


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
        + "".join(f"{name.replace('_', '-')} = false\n" for name in RuleProfile.model_fields),
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
