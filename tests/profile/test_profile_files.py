"""Profiles as files: empty ones, paths that are none, line ends and tabs (ids T10, T11, T13)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlxflow.errors import ProfileError
from rlxflow.profile import CompileProfile

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
