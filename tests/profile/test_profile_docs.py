"""docs/profiles.md: its tables are the model's, its examples run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from rlxflow.errors import ProfileError
from rlxflow.profile import CompileProfile, preset_table, profile_table
from rlxflow.profile.keys import keys

PAGE = Path(__file__).parents[2] / "docs" / "profiles.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize(("name", "table"), [("presets", preset_table()), ("keys", profile_table())])
def test_the_tables_are_up_to_date(name: str, table: str) -> None:
    found = re.search(rf"<!-- generated: {name} -->\n(.*?)\n<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert found
    assert found[1] == table


def test_the_key_table_is_a_table() -> None:
    rows = profile_table().splitlines()
    assert len(rows) == len(keys()) + 2
    assert {row.count("|") for row in rows} == {5}
    assert all(len(row.split("|")[4].strip()) > 8 for row in rows[2:])


def test_python_examples_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = _blocks("python")
    assert len(blocks) >= 4
    for block in blocks:
        (tmp_path / "example.py").write_text(block)
        runpy.run_path(str(tmp_path / "example.py"))
    assert "--set backend.cpu.threads=2" in capsys.readouterr().out


def test_toml_examples_load_and_the_error_is_real() -> None:
    (example,) = _blocks("toml")
    assert CompileProfile.from_toml_str(example).fusion.attention_threshold == 128
    (shown,) = _blocks("text")
    with pytest.raises(ProfileError) as caught:
        CompileProfile.from_toml_str("\n[fusion]\npolcy = 1", "my.rlx.toml")
    assert str(caught.value) == shown.strip()
