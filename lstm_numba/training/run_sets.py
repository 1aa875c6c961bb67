"""A set of runs: run folders in a folder, and a file that says what they have in common.

The members of a set are ordinary runs. ``set.json`` holds what each of them was configured with, so that also
those can be begun that a training did not come to.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lstm_numba._version import __version__
from lstm_numba.errors import CheckpointError, printable, printable_json
from lstm_numba.training.config import ConfigError, check_config, default_config

FORMAT = 1
FILE = "set.json"
#: What tells the members of a set from each other.
SEEDS, GROUPS = KINDS = ("seeds", "groups")
#: Bytes of a file at most; a group takes some hundred.
_LARGEST = 1 << 26
#: Names of folders that are something else: the set's own files, and what Windows has.
_TAKEN = (FILE, "comparison.png", "comparison.svg", "plots", "con", "prn", "aux", "nul")
#: Characters of a folder's name at most, and folders named in a message.
_LONGEST, _NAMED = 60, 3


class Member(NamedTuple):
    """A run of a set.

    Attributes
    ----------
    folder : str
        Within the set's.
    name : str
        Its seed or its group.
    config : dict
        As it began with.
    """

    folder: str
    name: str
    config: dict[str, Any]

    @property
    def cell(self) -> str:
        """Its recurrent cell."""
        return str(self.config["cell"])


class RunSet(NamedTuple):
    """A set of runs.

    Attributes
    ----------
    folder : Path
    kind : {"seeds", "groups"}
    members : tuple of Member
    column : str, optional
        Of groups: the column that has their names, if they are no files.
    skipped : dict of str
        Of groups: those without a model, and why.
    """

    folder: Path
    kind: str
    members: tuple[Member, ...]
    column: str | None = None
    skipped: Mapping[str, str] = {}

    @property
    def dataset(self) -> str:
        """What the members train on."""
        return str(self.members[0].config["dataset"])

    @property
    def cells(self) -> list[str]:
        """The cells of the members, each once."""
        return list(dict.fromkeys(member.cell for member in self.members))

    def path(self, member: Member) -> Path:
        """Run folder of a member."""
        return self.folder / member.folder

    def write(self) -> None:
        """Write ``set.json`` into the folder, which is made if it is not there.

        Raises
        ------
        CheckpointError
            There is a set already, or the folder cannot be made.
        """
        from lstm_numba.data.file_io import atomic_write

        content = json.dumps(self._document(), indent=2, ensure_ascii=False) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(self.folder / FILE, content.encode(), fresh=True)
        except FileExistsError:
            raise CheckpointError(f"{self.folder}: already holds a set of runs ({FILE})") from None
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot make the folder: {error.strerror}") from None

    def _document(self) -> dict[str, Any]:
        common = _common([member.config for member in self.members])
        members = [
            {"folder": one.folder, "name": one.name, "settings": _without(one.config, common)}
            for one in self.members
        ]
        return {
            "format": FORMAT,
            "version": __version__,
            "kind": self.kind,
            "column": self.column,
            "config": common,
            "members": members,
            "skipped": dict(self.skipped),
        }

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> RunSet:
        """Read the set in a folder.

        Raises
        ------
        CheckpointError
            There is none, or its file is damaged; one line that names it.
        """
        from lstm_numba.data.file_io import read_file

        path = Path(folder) / FILE
        try:
            return _parse(Path(folder), json.loads(read_file(path, _LARGEST, CheckpointError)))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{path}: damaged: {printable(' '.join(str(error).split()), 300)}"
            ) from None
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from None


def is_set(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a set of runs, and no run of its own."""
    path = Path(folder)
    try:
        return os.path.lexists(path / FILE) and not os.path.lexists(path / "config.json")
    except (OSError, ValueError):  # a name that cannot be
        return False


def not_one_run(folder: str | os.PathLike[str]) -> str:
    """What to say where one run was expected and a set was given: which runs it has."""
    found = RunSet.open(folder)
    folders = [str(found.path(member)) for member in found.members]
    shown = ", ".join(printable(name, 200) for name in folders[:_NAMED])
    if len(folders) > _NAMED:
        shown += f" ... {printable(folders[-1], 200)}"
    return f"is a set of {len(folders)} runs, name one of them: {shown}"


def folder_names(names: Iterable[str], empty: str = "run") -> dict[str, str]:
    """Names that a file system takes, each once also where it does not tell capital letters from small ones.

    Parameters
    ----------
    names : iterable of str
        Different ones.
    empty : str
        For a name of which nothing is left.
    """
    found: dict[str, str] = {}
    taken = set(_TAKEN)
    for name in names:
        stem = re.sub(r"[^\w.-]+", "-", name)[:_LONGEST].strip(".-") or empty
        folder, number = stem, len(found) + 1
        while folder.casefold() in taken:
            folder, number = f"{stem}-{number}", number + 1
        taken.add(folder.casefold())
        found[name] = folder
    return found


def _common(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all configurations have alike; within ``data`` too."""
    first, *others = configs
    found = {
        name: value
        for name, value in first.items()
        if name == "data" or all(name in other and other[name] == value for other in others)
    }
    if "data" in first:
        found["data"] = _common([{**config["data"]} for config in configs])
    return found


def _without(config: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """What is not common."""
    own = {name: value for name, value in config.items() if name != "data" and name not in common}
    data = {name: value for name, value in config["data"].items() if name not in common["data"]}
    return {**own, **({"data": data} if data else {})}


def _parse(folder: Path, found: Any) -> RunSet:
    """A set out of what its file holds; raises ValueError."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"expected an object of format {FORMAT}")
    if found.get("kind") not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {printable_json(found.get('kind'))}")
    if not isinstance(found.get("column"), str | None):
        raise ValueError("column: expected a text or null")
    common, members, skipped = (found.get(name) for name in ("config", "members", "skipped"))
    if not isinstance(common, dict) or not isinstance(common.get("data"), dict):
        raise ValueError("config: expected an object with data")
    if not isinstance(members, list) or not members:
        raise ValueError("members: expected a list of at least one")
    if not isinstance(skipped, dict) or not all(isinstance(why, str) for why in skipped.values()):
        raise ValueError("skipped: expected texts")
    read = tuple(_member(number, one, common) for number, one in enumerate(members, 1))
    for what, values in (("folder", [one.folder for one in read]), ("name", [_key(one) for one in read])):
        if len(set(values)) < len(values):
            raise ValueError(f"members: a {what} appears twice")
    if len({one.config["dataset"] for one in read}) > 1:
        raise ValueError("members: train on different data sets")
    return RunSet(folder, found["kind"], read, found.get("column"), skipped)


def _key(member: Member) -> tuple[str, str]:
    return member.cell, member.name


def _member(number: int, found: Any, common: Mapping[str, Any]) -> Member:
    where = f"member {number}"
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise ValueError(f"{where}: expected an object with settings")
    folder, name, settings = found.get("folder"), found.get("name"), found["settings"]
    if not isinstance(name, str) or not isinstance(folder, str):
        raise ValueError(f"{where}: expected texts as folder and name")
    parts = re.split(r"[/\\]", folder)
    if Path(folder).is_absolute() or "\0" in folder or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{where}: folder: expected one within the set's, got {printable_json(folder)}")
    if not isinstance(settings.get("data", {}), dict):
        raise ValueError(f"{where}: data: expected an object")
    config = {**common, **settings, "data": {**common["data"], **settings.get("data", {})}}
    check_config(config)
    usual = default_config(config["dataset"])
    data = _in_order(config["data"], usual["data"])
    return Member(folder, name, {**_in_order(config, usual), "data": data})


def _in_order(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The same values in the usual order: then a run's configuration is that of itself alone to the byte."""
    return {name: values[name] for name in dict.fromkeys((*usual, *values)) if name in values}
