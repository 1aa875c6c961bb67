"""The file of a sweep: read, and checked to the last range before anything trains. Optuna is not imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lstm_numba.cells import canonical_name
from lstm_numba.data.file_io import one_line, read_file
from lstm_numba.sweeps.config import NO_RANGES, PATHS, RISING, SweepConfig, settings_of
from lstm_numba.sweeps.ranges import (
    Domain,
    SweepError,
    combinations,
    permitted,
    read_conditions,
    read_domain,
    some_combinations,
)
from lstm_numba.training.config import ConfigError, shown
from lstm_numba.training.setting import (
    CLASSIFIERS,
    DATASETS,
    LANGUAGE_MODELS,
    MEASURES,
    NATURAL,
    POSITIVE,
    SEED,
    SERIES,
    Choice,
    Setting,
    check_names,
)
from lstm_numba.wording import nearest

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "hyperband", "none")
DIRECTIONS = ("minimize", "maximize")
#: Bytes of a file at most.
_LARGEST = 1 << 20
#: Combinations of values that are checked before anything trains; of more, as many at random.
_CHECKED = 2000
#: Combinations of a grid at most.
_LARGEST_GRID = 100_000
#: Options of ``train`` that are no settings of a trial, and whose they are.
_ELSEWHERE = {
    **dict.fromkeys(("device", "threads"), "is an option of lstm-numba sweep, as it may differ by machine"),
    **dict.fromkeys(
        ("out", "resume", "json"), "is not a setting: each trial has a run folder in the sweep's"
    ),
}


def read_sweep(path: str | os.PathLike[str]) -> SweepConfig:
    """Read a file and check everything in it.

    Parameters
    ----------
    path : path
        TOML; see `lstm_numba.sweeps.example`.

    Raises
    ------
    SweepError
        It cannot be read, or something in it is not sound: one line that names file and key, what came, and
        what was expected.
    """
    content = parse_toml(Path(path))
    try:
        return _Reader(Path(path), content).config()
    except SweepError as error:
        raise SweepError(f"{one_line(path, 400)}: {error}") from None


def parse_toml(path: Path) -> dict[str, Any]:
    """The table that a TOML file holds.

    Raises
    ------
    SweepError
        It is missing, too large, or invalid TOML; or Python is too old to read it by itself.
    """
    loads = _toml_loads()
    content = read_file(path, _LARGEST, SweepError)
    try:
        return loads(content.decode())
    except (ValueError, RecursionError) as error:  # the former: not UTF-8, or invalid TOML
        raise SweepError(f"{one_line(path, 400)}: invalid TOML: {one_line(error)}") from None


def _toml_loads() -> Callable[[str], dict[str, Any]]:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads
    try:
        import tomli
    except ImportError:
        raise SweepError(
            "TOML needs Python 3.11, or the package tomli: pip install 'lstm_numba[sweep]'"
        ) from None
    loads: Callable[[str], dict[str, Any]] = tomli.loads
    return loads


class _Reader:
    """Checks the content of a file, part by part; its errors name the key, not the file."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        self.content = _with_registered_cells(content)
        self.dataset = ""
        self.settings: dict[str, tuple[str, Setting]] = {}

    def config(self) -> SweepConfig:
        keys = (
            *("command", "name", "trials", "metric", "direction", "sampler", "pruner"),
            *("startup_trials", "warmup_epochs", "seed", "fixed", "ranges"),
        )
        for key in self.content:
            if key not in keys:
                raise SweepError(f"{_key(key)}: no such key{nearest(key, keys) or _or(keys)}")
        self.dataset = self._dataset()
        self.settings = settings_of(self.dataset)
        fixed, ranges = self._fixed(), self._ranges()
        both = next((name for name in ranges if name in fixed), None)
        if both is not None:
            raise SweepError(f"ranges.{self._option(both)}: stands under [fixed] too")
        metric = self._value("metric", "loss", Choice(_metrics(self.dataset)))
        usual = "maximize" if metric in RISING else "minimize"
        sampler = self._value("sampler", "tpe", Choice(SAMPLERS))
        grid = self._grid_size(ranges) if sampler == "grid" else 0
        config = SweepConfig(
            path=self.path,
            name=self._value("name", self.path.stem, _check_name),
            dataset=self.dataset,
            fixed=fixed,
            ranges=ranges,
            trials=self._value("trials", grid or 20, POSITIVE),
            metric=metric,
            direction=self._value("direction", usual, Choice(DIRECTIONS)),
            sampler=sampler,
            pruner=self._value("pruner", "median", Choice(PRUNERS)),
            startup_trials=self._value("startup_trials", 10, NATURAL),
            warmup_epochs=self._value("warmup_epochs", 1, NATURAL),
            seed=self._value("seed", 0, SEED),
            written={
                "command": f"train {self.dataset}",
                "metric": metric,
                "grid": sampler == "grid",
                "fixed": {self._option(name): value for name, value in self._written_fixed().items()},
                "ranges": {self._option(name): one.raw() for name, one in ranges.items()},
            },
        )
        if grid and config.trials > grid:
            raise SweepError(f"trials: the grid has {grid} combinations, got {config.trials}")
        if config.direction != usual:
            raise SweepError(f"direction: of {metric} expected {usual}, got {config.direction}")
        _check_combinations(config, self._option)
        return config

    def _value(self, key: str, default: Any, check: Callable[[Any], str]) -> Any:
        value = self.content.get(key, default)
        expected = check(value)
        if expected or value == "":
            hint = (
                nearest(value, check.values) if isinstance(check, Choice) and isinstance(value, str) else ""
            )
            raise SweepError(f"{key}: expected {expected or 'a text'}, got {shown(value)}{hint}")
        return value

    def _dataset(self) -> str:
        """The data set of ``command = "train DATASET"``."""
        example = 'expected "train" and a data set, such as "train digits"'
        if "command" not in self.content:
            raise SweepError(f"command: is missing; {example}")
        command = self.content["command"]
        words = command.split() if isinstance(command, str) else []
        words = words[1:] if words[:1] == ["lstm-numba"] else words
        if words[:1] != ["train"] or len(words) < 2:
            raise SweepError(f"command: {example}, got {shown(command)}")
        if words[1] not in DATASETS:
            hint = nearest(words[1], DATASETS) or _or(DATASETS)
            raise SweepError(f"command: no such data set {shown(words[1])}{hint}")
        if len(words) > 2:
            raise SweepError(
                f"command: {shown(' '.join(words[2:]))} belongs under [fixed] or [ranges], as name = value"
            )
        return words[1]

    def _table(self, key: str) -> dict[str, Any]:
        table = self.content.get(key, {})
        if not isinstance(table, dict):
            raise SweepError(f"{key}: expected a table, [{key}], got {shown(table)}")
        return table

    def _named(self, table: str) -> dict[str, tuple[str, Setting, Any]]:
        """Entries of a table by the settings' names, with the names that stand in the file."""
        found: dict[str, tuple[str, Setting, Any]] = {}
        for written, value in self._table(table).items():
            name, setting = self._setting(table, written)
            if name in found:
                raise SweepError(f"{table}.{_key(written)}: stands there as {found[name][0]} too")
            found[name] = (written, setting, value)
        return found

    def _setting(self, table: str, written: str) -> tuple[str, Setting]:
        option = written.replace("-", "_")
        if option in self.settings:
            return self.settings[option]
        key = f"{table}.{_key(written)}"
        if option in _ELSEWHERE:
            raise SweepError(f"{key}: {_ELSEWHERE[option]}")
        owners = [dataset for dataset in DATASETS if option in settings_of(dataset)]
        if owners:
            raise SweepError(f"{key}: is an option of train {', '.join(owners)}, not of train {self.dataset}")
        raise SweepError(f"{key}: train {self.dataset} has no such option{nearest(option, self.settings)}")

    def _option(self, name: str) -> str:
        """Name of the option of a setting's name."""
        return next((option for option, (owner, _) in self.settings.items() if owner == name), name)

    def _setting_name(self, written: str) -> str:
        option = str(written).replace("-", "_")
        return self.settings[option][0] if option in self.settings else option

    def _fixed(self) -> dict[str, Any]:
        fixed: dict[str, Any] = {}
        for name, (written, setting, value) in self._named("fixed").items():
            listed = setting.check is check_names and isinstance(value, str)
            value = [value] if listed else value
            expected = permitted(setting)(value)
            if expected:
                raise SweepError(f"fixed.{_key(written)}: expected {expected}, got {shown(value)}")
            fixed[name] = self._resolved(name, value)
        if self.dataset in ("text", "images") and "file" not in fixed:
            what = "folder of images" if self.dataset == "images" else "text"
            raise SweepError(f'fixed.file: is missing: the {what} to train on, file = "..."')
        if self.dataset in SERIES and not fixed.keys() & {"files", "example"}:
            raise SweepError(
                'fixed.files: is missing: the tables to train on, files = ["..."]; or example = "..."'
            )
        return fixed

    def _resolved(self, name: str, value: Any) -> Any:
        """A path as seen from the folder of the file: the sweep may be called from any."""
        if name not in PATHS:
            return value
        if name == "files":
            return [self._resolved("file", one) for one in value]
        return os.path.abspath(self.path.parent / Path(value).expanduser())

    def _written_fixed(self) -> dict[str, Any]:
        return {name: value for name, (_, _, value) in self._named("fixed").items()}

    def _ranges(self) -> dict[str, Domain]:
        entries = self._named("ranges")
        if not entries:
            raise SweepError(
                "ranges: is missing: what to vary, such as lr = {low = 1e-4, high = 1e-1, log = true}"
            )
        domains: dict[str, Domain] = {}
        for name, (written, setting, value) in entries.items():
            if name in NO_RANGES:
                raise SweepError(f"ranges.{_key(written)}: cannot be a range, only a fixed value")
            with _naming(f"ranges.{_key(written)}"):
                domains[name] = read_domain(name, setting, value)
        with_condition = []
        for name, (written, _, value) in entries.items():
            if isinstance(value, dict) and "when" in value:
                with _naming(f"ranges.{_key(written)}"):
                    domains[name] = read_conditions(domains, name, value["when"], self._setting_name)
                with_condition.append(name)
        for name in with_condition:
            chained = next((other for other in domains[name].when if other in with_condition), None)
            if chained is not None:
                key = f"ranges.{self._option(name)}.when.{self._option(chained)}"
                raise SweepError(f"{key}: has a condition itself; conditions name ranges without")
        ordered = [name for name in domains if name not in with_condition] + with_condition
        return {name: domains[name] for name in ordered}

    def _grid_size(self, ranges: Mapping[str, Domain]) -> int:
        for name, one in ranges.items():
            if one.values() is None:
                raise SweepError(
                    f'ranges.{self._option(name)}: sampler = "grid" needs a list of values, or a step'
                )
        count = 0
        for count, _ in enumerate(
            combinations(ranges, {n: one.values() or [] for n, one in ranges.items()}), 1
        ):
            if count > _LARGEST_GRID:
                raise SweepError(
                    f"sampler: a grid of more than {_LARGEST_GRID:,} combinations; make ranges smaller"
                )
        return count


def _with_registered_cells(value: Any, key: str = "", deeper: int = 6) -> Any:
    """What a file holds, with the registered names of cells, fixed, in ranges and in their conditions."""
    if isinstance(value, str) and key == "cell":
        return canonical_name(value)
    if isinstance(value, dict) and deeper:
        return {
            name: _with_registered_cells(one, key if key == "cell" else name, deeper - 1)
            for name, one in value.items()
        }
    if isinstance(value, list) and deeper:
        return [_with_registered_cells(one, key, deeper - 1) for one in value]
    return value


class _naming:
    """Context manager that puts a key before the text of an error."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SweepError):
            raise SweepError(f"{self._key}{'.' if error.word else ': '}{error}") from None


def _key(name: str) -> str:
    """A key of the file for a message."""
    return one_line(name, 80) or '""'


def _check_name(value: Any) -> str:
    """Check the name of a study."""
    good = isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()
    return "" if good else "a text of up to 200 printable characters"


def _or(names: tuple[str, ...]) -> str:
    return f"; there are {', '.join(names)}"


def _metrics(dataset: str) -> tuple[str, ...]:
    """What a sweep may look at."""
    if dataset in CLASSIFIERS:
        return ("loss", "accuracy")
    return ("loss", "perplexity") if dataset in LANGUAGE_MODELS else ("loss", "accuracy", *MEASURES)


def _check_combinations(config: SweepConfig, option: Callable[[str], str]) -> None:
    """Refuse ranges of which some values do not go with others: a trial would end before it began."""
    for params in some_combinations(config.ranges, _CHECKED):
        try:
            config.run_config(params)
        except ConfigError as error:
            values = ", ".join(f"{option(name)} = {value}" for name, value in params.items())
            name = error.option.removeprefix("data.")
            where = f"ranges.{option(name)}" if name in config.ranges else f"fixed.{option(name)}"
            why = str(error).removeprefix(f"{error.option}: ")
            hint = "; a range may have a condition, when = {...}" if name in config.ranges else ""
            raise SweepError(f"{where}: {why} (a trial with {values}){hint}") from None
