"""How many cases of bad input the tests hold, per kind and id: python tests/count_cases.py

Kinds: S safetensors, I index and directory, G GGUF, T profiles, C configs, K tokenizers and templates,
F flow wiring, R calls. Exits with 1 when an id has neither a case nor a reason in `WITHOUT_CASE`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

LAST = {"S": 20, "I": 9, "G": 45, "T": 13, "C": 9, "K": 3, "F": 12, "R": 11}
WITHOUT_CASE: dict[str, str] = {}


def collected() -> list[str]:
    """The ids of all tests."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "addopts="]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in result.stdout.splitlines() if "::" in line]


def main() -> int:
    counts: Counter[str] = Counter()
    for test in (t.split("::", 1)[1] for t in collected()):
        function, _, case = test.partition("[")
        marks = re.sub(r"_([sigtckfr]\d{1,2})(?=_)", lambda m: m[0].upper(), function) + "[" + case
        for kind, number in set(re.findall(r"(?<![A-Za-z0-9])([SIGTCKFR])(\d{1,2})(?![A-Za-z0-9])", marks)):
            if int(number) <= LAST[kind]:
                counts[kind + number] += 1
    open_ids = []
    for kind, last in LAST.items():
        ids = [f"{kind}{i}" for i in range(1, last + 1)]
        open_ids += [i for i in ids if not counts[i] and i not in WITHOUT_CASE]
        shown = " ".join(f"{i}:{counts[i]}" for i in ids)
        print(f"{kind}  {sum(counts[i] for i in ids):4d} cases   {shown}")
    print(f"all {sum(counts.values()):4d} cases")
    for name, reason in WITHOUT_CASE.items():
        print(f"{name}: {reason}")
    if open_ids:
        print(f"without a case: {' '.join(open_ids)}")
    return 1 if open_ids else 0


if __name__ == "__main__":
    sys.exit(main())
