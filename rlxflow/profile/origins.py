"""Where a profile's values come from."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from rlxflow.quick_dataclass import dataclass


class OriginKind(StrEnum):
    """The layers of a profile, weakest first."""

    DEFAULT = "default"
    EXTENDS = "extends"
    FILE = "file"
    PYTHON = "python"
    ENVIRONMENT = "environment"
    OVERRIDE = "override"


@dataclass(frozen=True)
class Origin:
    """One value's source: the layer, and a place to look at (`file:line:col`, a variable, a `--set`)."""

    kind: OriginKind
    where: str = ""

    def __str__(self) -> str:
        if self.kind is OriginKind.EXTENDS:
            return f"{self.where} (extends)"
        return self.where or self.kind.value


DEFAULT = Origin(OriginKind.DEFAULT)
PYTHON = Origin(OriginKind.PYTHON)


@dataclass(frozen=True)
class Setting:
    """One value on its way into a profile, not validated yet."""

    value: Any
    origin: Origin


# A profile in the making: dotted key (`fusion.policy`) -> setting. Later layers overwrite earlier ones.
Settings = dict[str, Setting]
