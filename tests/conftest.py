"""Where a test names no backend, the reference runs: it needs no compiling.

Ctrl-C is heard also where the tests run in the background of a shell, which has it ignored: some send one.
"""

from __future__ import annotations

import os
import signal

os.environ.setdefault("RLXFLOW_BACKEND", "reference")
signal.signal(signal.SIGINT, signal.default_int_handler)
