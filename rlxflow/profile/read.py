"""From a profile file's bytes to plain TOML data, with every fault as a ProfileError."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

from rlxflow.errors import ProfileError, printable

MAX_BYTES = 1 << 20
MAX_DOTS = 20_000  # the parser's time grows with the square of a key's dotted parts


def read_text(path: Path) -> str:
    """The text of a profile file, without a byte order mark, lines ending in newline alone.

    Raises ProfileError: RLX-P001 (missing, a directory, unreadable), RLX-P002 (not UTF-8), RLX-P010 (too
    large).
    """
    where = printable(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ProfileError(
                "the profile is a directory",
                code="RLX-P001",
                where=where,
                hint="name a *.rlx.toml file in it",
            )
        if not stat.S_ISREG(status.st_mode):  # a pipe or device may never end
            raise ProfileError(
                "the profile is not a regular file",
                code="RLX-P001",
                where=where,
                hint="save it as a file first",
            )
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProfileError(
            f"cannot read the profile: {reason.lower()}",
            code="RLX-P001",
            where=where,
            hint="check the path; `rlxflow profile list` names the presets",
        ) from None
    return decode(raw, where)


def decode(raw: bytes, where: str) -> str:
    """UTF-8 bytes of a profile as text; raises ProfileError RLX-P002 or RLX-P010."""
    if len(raw) > MAX_BYTES:
        raise ProfileError(
            "the profile is larger than 1 MiB",
            code="RLX-P010",
            where=where,
            hint="a profile holds settings only; is this the right file?",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise ProfileError(
            f"the profile is not UTF-8: byte 0x{raw[error.start]:02x}",
            code="RLX-P002",
            where=f"{where}:{line}:{column}",
            hint="save the file as UTF-8",
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """TOML text as data; raises ProfileError RLX-P002 with the line and column of the fault."""
    import tomli

    if text.count(".") > MAX_DOTS:
        raise ProfileError(
            f"not a profile: more than {MAX_DOTS} dots",
            code="RLX-P002",
            where=where,
            hint="a profile has sections and keys only",
        )
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        message, place = _fault(str(error), text)
        raise ProfileError(
            f"not valid TOML: {message}", code="RLX-P002", where=f"{where}:{place}", hint=_remedy(message)
        ) from None
    except RecursionError:
        raise ProfileError(
            "not valid TOML: nested too deep",
            code="RLX-P002",
            where=where,
            hint="a profile has sections and keys only",
        ) from None
    except ValueError:  # int() refuses numbers of more than 4300 digits
        raise ProfileError(
            "not valid TOML: a number has too many digits",
            code="RLX-P002",
            where=where,
            hint="write a number that fits the key",
        ) from None


def _fault(message: str, text: str) -> tuple[str, str]:
    """tomli's message taken apart: what is wrong, and "line:column"."""
    found = re.fullmatch(r"(.*?) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found:
        return printable(found[1]), f"{found[2]}:{found[3]}"
    last = text.rfind("\n")
    return printable(message), f"{text.count(chr(10)) + 1}:{len(text) - last}"


def _remedy(message: str) -> str:
    if "overwrite" in message or "twice" in message or "Duplicate" in message:
        return "this key or section is written twice: keep one"
    if message.endswith("character '\\n'"):
        return "close the quotes on this line"
    if "character" in message:
        return "remove the character: only tab and newline are allowed as control characters"
    return 'a line is a [section] or a key = value; text stands in quotes: policy = "direct"'
