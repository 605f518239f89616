"""Progress bars on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(
    total: int, what: str, show: bool | None = None, unit: str = "it"
) -> Iterator[Callable[[int], object]]:
    """A bar to advance by counts. `show` None: only on a terminal, and not with RLXFLOW_PROGRESS=0.

    There is none in a process without standard error.
    """
    if sys.stderr is None:
        show = False
    if show is None:
        show = sys.stderr.isatty() and os.environ.get("RLXFLOW_PROGRESS", "1") != "0"
    if not show:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(
        total=total, desc=what, file=sys.stderr, leave=False, unit=unit, unit_scale=unit == "B"
    ) as shown:
        yield shown.update
