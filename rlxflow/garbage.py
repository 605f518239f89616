"""No search for garbage while what is made stays: modules, graphs, models."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block no garbage is looked for.

    A graph under construction is all alive, and it is large: looking through it again and again takes a fifth
    of the time. So are modules that are being imported.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
