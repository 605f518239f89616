"""One profile file: its settings with their places, and the file it extends."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from rlxflow.errors import ProfileError, printable
from rlxflow.profile.keys import HEADER_KEYS, find_key, sections, unknown_key
from rlxflow.profile.locate import KeyPath, key_positions
from rlxflow.profile.origins import Origin, OriginKind, Setting, Settings
from rlxflow.profile.presets import SUFFIX, preset_text
from rlxflow.profile.problems import Problem, profile_error, section_problem, shown
from rlxflow.profile.read import decode, parse_toml, read_text
from rlxflow.quick_dataclass import dataclass

VERSION = 1
_ENOUGH_PROBLEMS = 20


@dataclass(frozen=True)
class Document:
    """One TOML text on its way into a profile.

    `label` names it in errors, `identity` tells files apart (a resolved path, or "preset NAME"), `folder` is
    what relative `extends` start from and `root` the directory they may not leave; None: presets only.
    """

    text: str
    label: str
    identity: str
    folder: Path | None = None
    root: Path | None = None

    @classmethod
    def of_text(cls, text: str, label: str) -> Document:
        clean = decode(text.encode("utf-8", "surrogatepass"), label)
        return cls(clean, printable(label), f"text {label}")

    @classmethod
    def of_preset(cls, name: str) -> Document:
        return cls(preset_text(name), name + SUFFIX, f"preset {name}")

    @classmethod
    def of_path(cls, path: Path, root: Path | None = None) -> Document:
        text = read_text(path)
        folder = path.parent.resolve()
        return cls(text, printable(path), str(path.resolve()), folder, root or folder)

    @cached_property
    def data(self) -> dict[str, Any]:
        data = parse_toml(self.text, self.label)
        self._check_version(data.get("version", VERSION))
        return data

    @cached_property
    def _positions(self) -> dict[KeyPath, tuple[int, int]]:
        return key_positions(self.text)

    def place(self, *path: str) -> str:
        """`file:line:column` of a key, or the file alone where the scan did not find it."""
        found = self._positions.get(path)
        return f"{self.label}:{found[0]}:{found[1]}" if found else self.label

    def settings(self, kind: OriginKind) -> Settings:
        """The file's own settings. Raises ProfileError RLX-P003 or RLX-P004 for keys that do not exist."""
        settings: Settings = {}
        problems: list[Problem] = []
        self._collect(self.data, (), kind, settings, problems)
        if problems:
            raise profile_error(problems)
        return settings

    def _collect(
        self,
        table: dict[str, Any],
        section: KeyPath,
        kind: OriginKind,
        settings: Settings,
        problems: list[Problem],
    ) -> None:
        for name, value in table.items():
            if len(problems) >= _ENOUGH_PROBLEMS:
                return
            path = (*section, name)
            key = ".".join(path)
            if key in HEADER_KEYS:
                continue
            if "." not in name and find_key(key) is not None:
                settings[key] = Setting(value, Origin(kind, self.place(*path)))
            elif "." not in name and key in sections():
                if isinstance(value, dict):
                    self._collect(value, path, kind, settings, problems)
                else:
                    problems.append(section_problem(key, value, self.place(*path)))
            else:
                problems.append(unknown_key(key, is_section=_is_table(value), where=self.place(*path)))

    def _check_version(self, version: object) -> None:
        if type(version) is not int or version < 1:
            raise ProfileError(
                f"version is a whole number from 1, not {shown(version)}",
                code="RLX-P004",
                where=self.place("version"),
                hint=f"write version = {VERSION}",
            )
        if version > VERSION:
            raise ProfileError(
                f"the profile is of version {shown(version)}; this rlxflow reads up to {VERSION}",
                code="RLX-P007",
                where=self.place("version"),
                hint="upgrade rlxflow",
            )

    def parent(self) -> Document | None:
        """The document that `extends` names, or None. Raises ProfileError RLX-P004 or RLX-P006."""
        if "extends" not in self.data:
            return None
        name = self.data["extends"]
        if not isinstance(name, str):
            raise ProfileError(
                f"extends is a preset's name or a file name, not {shown(name)}",
                code="RLX-P004",
                where=self.place("extends"),
                hint='write extends = "encoder", or a file: extends = "base.rlx.toml"',
            )
        try:
            return self._parent_file(name) if name.endswith(".toml") else Document.of_preset(name)
        except ProfileError as error:
            if error.code not in ("RLX-P001", "RLX-P008"):
                raise
            hint = error.hint if error.code == "RLX-P008" else "file names are relative to this profile"
            raise self.extends_error(
                f"cannot extend '{printable(name, 80)}': {error.message}", hint
            ) from None

    def _parent_file(self, name: str) -> Document:
        if self.folder is None or self.root is None:
            raise self.extends_error(
                f"cannot extend the file '{printable(name, 80)}': only profiles read from a file can",
                "extend a preset by its name, or save this profile as a file",
            )
        path = self.folder / name
        try:
            inside = not Path(name).is_absolute() and path.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError, ValueError):  # a loop of links, or a name no file can have
            inside = False
        if not inside:
            raise self.extends_error(
                f"cannot extend '{printable(name, 80)}': it leads out of the profile's directory",
                "copy that profile beside this one and extend the copy",
            )
        return Document.of_path(path, self.root)

    def extends_error(self, message: str, hint: str) -> ProfileError:
        """An error RLX-P006 at this document's `extends` line."""
        return ProfileError(message, code="RLX-P006", where=self.place("extends"), hint=hint)


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))
