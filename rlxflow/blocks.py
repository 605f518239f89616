"""The stage library: `from rlxflow.blocks import BertEncoderLayerStage`."""

from importlib import import_module

_library = import_module("rlxflow")
__all__ = [name for name, home in _library._homes().items() if home.startswith("rlxflow.stages.")]
__getattr__ = _library.__getattr__
