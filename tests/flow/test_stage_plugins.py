# ruff: noqa: E501  (one case per line or two)
"""Stages of other packages (ids F10)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest
from flow_samples import ScaleStage

from rlxflow.errors import PluginError
from rlxflow.flow import plugins
from rlxflow.stages.bert import BertEncoderLayerStage
from rlxflow.stages.rope import RopeTablesStage

# -- F10: stages of other packages ------------------------------------------------------------------


def entry(name: str, target: str) -> EntryPoint:
    return EntryPoint(name, target, "rlxflow.stages")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that packages with these entry points are installed."""

    def install(*points: EntryPoint) -> None:
        monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])

    return install


def test_F10_stages_are_found_by_name(installed: Callable[..., None]) -> None:
    installed(entry("ScaleStage", "flow_samples:ScaleStage"), entry("Broken", "no_such_module:X"))
    assert {"ScaleStage", "Broken", "EmbedStage"} <= set(plugins.stage_names())
    assert plugins.find_stage("ScaleStage") is ScaleStage
    assert plugins.find_stage("RopeTablesStage") is RopeTablesStage
    assert BertEncoderLayerStage.__name__ in plugins.stage_names()


PLUGINS = {
    "F10-name-of-a-built-in": ([entry("EmbedStage", "flow_samples:ScaleStage")], "EmbedStage", "RLX-X003",
                               "given by rlxflow.stages.embed and by flow_samples:ScaleStage", "renamed"),
    "F10-name-given-twice": ([entry("A", "flow_samples:ScaleStage"), entry("A", "other:Stage")], "A", "RLX-X003",
                             "flow_samples:ScaleStage and by other:Stage", "uninstall one"),
    "F10-module-missing": ([entry("A", "no_such_module:Stage")], "A", "RLX-X004", "No module named", "reinstall"),
    "F10-name-missing": ([entry("A", "flow_samples:NoStage")], "A", "RLX-X004", "does not load", "reinstall"),
    "F10-not-a-class": ([entry("A", "flow_samples:SPEC")], "A", "RLX-X005", "DecoderLayerSpec", "give a class"),
    "F10-not-a-stage": ([entry("A", "flow_samples:FakeWeights")], "A", "RLX-X005", "is type", "weights() and emit"),
    "F10-unknown": ([], "EmbdStage", "RLX-X009", "no stage 'EmbdStage'", "did you mean 'EmbedStage'?"),
}  # fmt: skip


@pytest.mark.parametrize("case", PLUGINS)
def test_plugins(case: str, installed: Callable[..., None]) -> None:
    points, name, code, message, hint = PLUGINS[case]
    installed(*points)
    with pytest.raises(PluginError) as caught:
        plugins.find_stage(name)
    assert caught.value.code == code and message in caught.value.message and hint in caught.value.hint
