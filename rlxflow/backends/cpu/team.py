"""The threads of a call."""

from __future__ import annotations

from collections.abc import Callable


class Team:
    """Runs a function on every thread."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, function: Callable[[int, int], None], job: int) -> None:
        function(job, 0)
