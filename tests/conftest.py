"""Where a test names no backend, the reference runs: it needs no compiling."""

from __future__ import annotations

import os

os.environ.setdefault("RLXFLOW_BACKEND", "reference")
