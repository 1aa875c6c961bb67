"""A run folder: configuration, metrics, checkpoint; what is known of texts, own pictures and tables."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from lstm_numba.errors import CheckpointError, printable, printable_json
from lstm_numba.training.config import ConfigError, check_config, with_later_settings
from lstm_numba.training.settings import MEASURES, check_size, is_number

if TYPE_CHECKING:
    from lstm_numba.training.series_description import SeriesDescription

#: Bytes of a file at most, and of a configuration, which is small.
_LARGEST, _LARGEST_CONFIG = 1 << 28, 1 << 20
#: Bytes of a line of metrics at most.
_LONGEST_LINE = 1 << 20


class Run:
    """A run folder on disk; `create` makes one, `open` finds one.

    Attributes
    ----------
    folder : Path
    config : dict
    """

    def __init__(self, folder: Path, config: dict[str, Any], kept: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.config = config
        self._kept = copy.deepcopy(config if kept is None else kept)  # as config.json has it

    @property
    def config_path(self) -> Path:
        """The configuration."""
        return self.folder / "config.json"

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint; not there before the first is written."""
        return self.folder / "checkpoint.safetensors"

    @property
    def best_path(self) -> Path:
        """The checkpoint of the best epoch; not there before the first epoch's end."""
        return self.folder / "best.safetensors"

    def path_of(self, which: str | None = None) -> Path:
        """The last checkpoint, or that of the best epoch.

        Parameters
        ----------
        which : {"last", "best"}, optional
            By default the setting `keep`; the last too before the first epoch's end, when there is no other.
        """
        if which is None:
            which = "best" if self.config["keep"] == "best" and self.best_path.exists() else "last"
        return self.best_path if which == "best" else self.checkpoint_path

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line."""
        return self.folder / "metrics.jsonl"

    @property
    def vocabulary_path(self) -> Path:
        """Level and tokens of a language model's text."""
        return self.folder / "vocabulary.json"

    @property
    def form_path(self) -> Path:
        """Classes, size and normalisation of a user's own pictures."""
        return self.folder / "classes.json"

    @property
    def series_path(self) -> Path:
        """What is known of a user's tables: see `lstm_numba.training.series_description`."""
        return self.folder / "series.json"

    @classmethod
    def create(cls, folder: str | os.PathLike[str], config: Mapping[str, Any]) -> Run:
        """Make a run folder with its configuration.

        Raises
        ------
        CheckpointError
            The folder holds a run already, or cannot be made.
        ConfigError
            The configuration is not sound.
        """
        check_config(config)
        run = cls(Path(folder), json.loads(json.dumps(config)))
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            for path in (run.config_path, run.checkpoint_path, run.best_path, run.metrics_path):
                if os.path.lexists(path):
                    raise CheckpointError(f"{run.folder}: already holds a run ({path.name})")
            run._write_config(fresh=True)  # claims the folder: of several processes one succeeds
        except OSError as error:
            if isinstance(error, FileExistsError) and os.path.lexists(run.config_path):
                raise CheckpointError(f"{run.folder}: already holds a run ({run.config_path.name})") from None
            raise CheckpointError(f"{run.folder}: cannot make the run folder: {error.strerror}") from None
        return run

    @classmethod
    def create_next(cls, stem: str | os.PathLike[str], config: Mapping[str, Any]) -> Run:
        """Make a run folder under the first free number: ``stem-1``, ``stem-2``, ...; see `create`."""
        check_config(config)
        return cls.create(next_folder(stem), config)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Find a run folder.

        Raises
        ------
        CheckpointError
            There is none, or its configuration is damaged; one line that names the file.
        """
        path = Path(folder) / "config.json"
        if not path.exists():
            raise CheckpointError(_no_run(folder))
        kept = _parse(path, _read(path, _LARGEST_CONFIG))
        config = with_later_settings(kept)
        try:
            check_config(config)
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from None
        return cls(Path(folder), config, kept)

    def metrics(self) -> list[dict[str, Any]]:
        """The objects in ``metrics.jsonl``; an incomplete last line is left out.

        Raises
        ------
        CheckpointError
            A line is damaged.
        """
        if not self.metrics_path.exists():
            return []
        content = _read(self.metrics_path)
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        objects = [_parse(self.metrics_path, line, f"line {k}: ") for k, line in enumerate(lines, 1)]
        for number, values in enumerate(objects, 1):
            fault = _line_fault(values)
            if fault:
                raise CheckpointError(f"{self.metrics_path}: damaged: line {number}: {fault}")
        return objects

    def vocabulary(self) -> dict[str, Any] | None:
        """What `keep_vocabulary` wrote, or None."""
        if not self.vocabulary_path.exists():
            return None
        found = _parse(self.vocabulary_path, _read(self.vocabulary_path))
        level, tokens = found.get("level"), found.get("tokens")
        if level not in ("char", "word") or not isinstance(tokens, list) or not tokens:
            raise CheckpointError(f"{self.vocabulary_path}: damaged: expected level and tokens")
        odd = [printable_json(token) for token in tokens if not isinstance(token, str)]
        if odd:
            raise CheckpointError(f"{self.vocabulary_path}: damaged: tokens: expected texts, got {odd[0]}")
        if len(set(tokens)) < len(tokens):
            raise CheckpointError(f"{self.vocabulary_path}: damaged: tokens: one appears twice")
        return {"level": level, "tokens": tokens}

    def keep_vocabulary(self, level: str, tokens: tuple[str, ...]) -> None:
        """Keep a text's tokens, so that the model can be used without the text.

        Raises
        ------
        CheckpointError
            The run has others: the text has changed.
        """
        from lstm_numba.data.file_io import atomic_write

        kept, new = self.vocabulary(), {"level": level, "tokens": list(tokens)}
        if kept is None:
            atomic_write(self.vocabulary_path, (json.dumps(new, ensure_ascii=False) + "\n").encode())
        elif kept != new:
            raise CheckpointError(
                f"{self.vocabulary_path}: the text has other {level}s than those that the run started with"
            )

    def form(self) -> dict[str, Any] | None:
        """What `keep_form` wrote, or None."""
        if not self.form_path.exists():
            return None
        found = _parse(self.form_path, _read(self.form_path))
        fault = _form_fault(found)
        if fault:
            raise CheckpointError(f"{self.form_path}: damaged: {fault}")
        return {name: found[name] for name in ("classes", "shape", "mean", "deviation")}

    def needed_form(self) -> dict[str, Any]:
        """See `form`; raises CheckpointError if it is missing."""
        found = self.form()
        if found is None:  # without it, nobody would notice that the pictures have changed
            raise CheckpointError(f"{self.form_path}: missing")
        return found

    def keep_form(self, form: Mapping[str, Any]) -> None:
        """Keep an `lstm_numba.data.images.ImageForm`, so that the model can be used without the pictures.

        Raises
        ------
        CheckpointError
            The run has another one: the pictures have changed.
        """
        from lstm_numba.data.file_io import atomic_write

        content = json.dumps(dict(form)) + "\n"
        kept = self.form()
        if kept is None:
            atomic_write(self.form_path, content.encode())
        elif kept != json.loads(content):
            raise CheckpointError(f"{self.form_path}: the images are not those that the run started with")

    def series(self) -> SeriesDescription | None:
        """What `keep_series` wrote, or None.

        Raises
        ------
        CheckpointError
            It is damaged.
        """
        if not self.series_path.exists():
            return None
        from lstm_numba.training.series_description import SeriesDescription

        try:
            return SeriesDescription.from_dict(_parse(self.series_path, _read(self.series_path)))
        except ValueError as error:
            raise CheckpointError(f"{self.series_path}: damaged: {printable(str(error))}") from None

    def needed_series(self) -> SeriesDescription:
        """See `series`; raises CheckpointError if it is missing."""
        found = self.series()
        if found is None:
            raise CheckpointError(f"{self.series_path}: missing")
        return found

    def keep_series(self, series: SeriesDescription) -> None:
        """Keep what is known of tables, so that the model can be used without them.

        Raises
        ------
        CheckpointError
            The run has another one: the data have changed.
        """
        from lstm_numba.data.file_io import atomic_write

        kept = self.series()
        if kept is None:
            content = json.dumps(series.to_dict(), indent=2, ensure_ascii=False) + "\n"
            atomic_write(self.series_path, content.encode())
        elif kept.digest() != series.digest():
            raise CheckpointError(f"{self.series_path}: the data are not those that the run started with")

    def keep_config(self) -> None:
        """Write `config` to disk if it was changed; the caller has the lock.

        Raises
        ------
        CheckpointError
            Another process changed the file since it was read.
        """
        if _parse(self.config_path, _read(self.config_path, _LARGEST_CONFIG)) != self._kept:
            raise CheckpointError(f"{self.config_path}: another process has changed it, try again")
        if self.config != self._kept:
            self._write_config()

    def _write_config(self, fresh: bool = False) -> None:
        from lstm_numba.data.file_io import atomic_write

        content = json.dumps(self.config, indent=2) + "\n"
        atomic_write(self.config_path, content.encode(), fresh=fresh)
        self._kept = json.loads(content)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder; the lock ends with the process.

        Raises
        ------
        CheckpointError
            Another process trains here, or there is no such folder.
        """
        from lstm_numba.data.file_io import folder_lock

        with ExitStack() as stack:
            try:
                alone = stack.enter_context(folder_lock(self.folder))
            except BlockingIOError:
                raise CheckpointError(f"{self.folder}: another process is training in this folder") from None
            except OSError as error:
                raise CheckpointError(f"{self.folder}: {error.strerror}") from None
            if alone:
                self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove incomplete files of killed processes; no other process writes here now."""
        kept = (self.config_path, self.checkpoint_path, self.best_path)
        for path in (*kept, self.vocabulary_path, self.form_path, self.series_path):
            for left in self.folder.glob(f"{path.name}.*.tmp"):
                with suppress(OSError):
                    left.unlink()


def next_folder(stem: str | os.PathLike[str]) -> Path:
    """Make the first folder that is free: ``stem-1``, ``stem-2``, ...; raises CheckpointError."""
    stem = Path(stem)
    for number in itertools.count(1):
        folder = stem.with_name(f"{stem.name}-{number}")
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()  # claims the number
        except OSError as error:
            if isinstance(error, FileExistsError) and os.path.lexists(folder):
                continue
            raise CheckpointError(f"{folder}: cannot make the run folder: {error.strerror}") from None
        return folder
    raise AssertionError


def _no_run(folder: str | os.PathLike[str]) -> str:
    """Why a folder without a configuration is no run."""
    from lstm_numba.training.run_sets import is_set, not_one_run

    if is_set(folder):
        return f"{folder}: {not_one_run(folder)}"
    if not os.path.exists(folder):
        return f"run folder {folder} does not exist"
    if not os.path.isdir(folder):
        return f"{folder}: is a file, expected a run folder"
    return f"{folder}: not a run folder, it has no config.json"


def _read(path: Path, limit: int = _LARGEST) -> bytes:
    from lstm_numba.data.file_io import read_file

    return read_file(path, limit, CheckpointError)


def _parse(path: Path, content: bytes, where: str = "") -> dict[str, Any]:
    """The JSON object that a file, or a line of it, holds."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {where}{' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: damaged: {where}expected an object, got {printable_json(found)}")
    return found


def _line_fault(values: Mapping[str, Any]) -> str:
    """What is wrong with a line of metrics; empty if nothing is."""
    if values.get("kind") not in ("step", "epoch", "averaging", "final"):
        return f"kind: expected step, epoch, averaging or final, got {printable_json(values.get('kind'))}"
    if values.get("split") not in ("train", "valid", "test"):
        return f"split: expected train, valid or test, got {printable_json(values.get('split'))}"
    for name in ("epoch", "step"):
        value = values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            return f"{name}: expected a whole number from 0, got {printable_json(value)}"
    for name in ("loss", "accuracy", "perplexity", "lr", *MEASURES):
        value = values.get(name)  # None stands for infinity
        if value is not None and not is_number(value):
            return f"{name}: expected a number, got {printable_json(value)}"
    return ""


def _form_fault(found: Mapping[str, Any]) -> str:
    """What is wrong with a form of pictures; empty if nothing is."""
    classes, shape = found.get("classes"), found.get("shape")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        return f"classes: expected texts, got {printable_json(classes)}"
    if len(set(classes)) < max(len(classes), 2):
        return "classes: expected at least two, and none twice"
    sizes = shape if isinstance(shape, list) and all(type(size) is int for size in shape) else []
    if check_size("x".join(map(str, sizes[:2]))) or sizes[2:] not in ([], [3]):
        return f"shape: expected height, width and, for color images, 3, got {printable_json(shape)}"
    for name in ("mean", "deviation"):
        if not is_number(found.get(name)) or not 0 <= found[name] <= 1:
            return f"{name}: expected a number from 0 to 1, got {printable_json(found.get(name))}"
    return "" if found["deviation"] else "deviation: expected a number above 0"


def json_line(value: Any) -> str:
    """One line of JSON; a number that JSON does not have (inf, NaN) becomes null."""
    return json.dumps(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def refuse_irregular(path: Path) -> None:
    """Refuse to write to what is there and no file, such as a pipe, on which a program may wait for ever.

    Raises
    ------
    CheckpointError
    """
    if os.path.lexists(path) and not path.is_file():
        raise CheckpointError(f"{path}: is a folder" if path.is_dir() else f"{path}: not a regular file")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in an error: the system's does not for a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


class MetricsLog:
    """``metrics.jsonl`` while a training writes to it.

    Parameters
    ----------
    path : Path
    lines : int
        Lines that the checkpoint counts; later ones are cut off and will be written again.

    Attributes
    ----------
    lines : int
        Complete lines in the file.
    """

    def __init__(self, path: Path, lines: int) -> None:
        self._path = path
        refuse_irregular(path)
        self._file: BinaryIO = path.open("a+b")
        self._file.seek(0)
        end = 0
        self.lines = 0
        while self.lines < lines:
            line = self._file.readline(_LONGEST_LINE)
            if not line.endswith(b"\n"):
                break
            end += len(line)
            self.lines += 1
        with naming(self._path):
            self._file.truncate(end)

    def append(self, values: Mapping[str, Any]) -> None:
        """Write an object as one line, see `json_line`."""
        with naming(self._path):
            self._file.write((json_line(values) + "\n").encode())
            self._file.flush()
        self.lines += 1

    def sync(self) -> None:
        """Make sure that all lines are on disk."""
        with naming(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # errors of a full disk were raised by the write
            self._file.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
