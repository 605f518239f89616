"""Every public name at once: `from rlxflow.prelude import *`."""

from importlib import import_module

_library = import_module("rlxflow")
__all__ = _library.__all__
__getattr__ = _library.__getattr__
