"""Tier 2, the raw graph: `from rlxflow.escape import Emit`."""

from rlxflow.flow.decode_bindings import DecodeBindings as DecodeBindings
from rlxflow.flow.emit import Emit as Emit
from rlxflow.stages.custom import CustomStage as CustomStage, PluginStage as PluginStage
