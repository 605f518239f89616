"""Profiles that extend others: how deep, from where, and where a mistake is said to be (ids T8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlxflow.errors import ProfileError
from rlxflow.profile import CompileProfile

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
