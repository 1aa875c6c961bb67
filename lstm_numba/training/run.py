"""A run folder: configuration, metrics, checkpoint and, for texts, vocabulary."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from lstm_numba.errors import CheckpointError
from lstm_numba.training.config import ConfigError, check_config


class Run:
    """A run folder on disk; `create` makes one, `open` finds one.

    Attributes
    ----------
    folder : Path
    config : dict
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config

    @property
    def config_path(self) -> Path:
        """The configuration."""
        return self.folder / "config.json"

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint; not there before the first is written."""
        return self.folder / "checkpoint.safetensors"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line."""
        return self.folder / "metrics.jsonl"

    @property
    def vocabulary_path(self) -> Path:
        """Level and tokens of a language model's text."""
        return self.folder / "vocabulary.json"

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
        from lstm_numba.training.checkpoint import atomic_write

        check_config(config)
        run = cls(Path(folder), json.loads(json.dumps(config)))
        for path in (run.config_path, run.checkpoint_path, run.metrics_path):
            if path.exists():
                raise CheckpointError(f"{run.folder}: holds a run already ({path.name})")
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(run.config_path, (json.dumps(run.config, indent=2) + "\n").encode())
        except OSError as error:
            raise CheckpointError(f"{run.folder}: cannot make the run folder: {error.strerror}") from None
        return run

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Find a run folder.

        Raises
        ------
        CheckpointError
            There is none, or its configuration is damaged; one line that names the file.
        """
        path = Path(folder) / "config.json"
        config = _read_json(path, missing=f"{folder}: not a run folder: it holds no config.json")
        try:
            check_config(config)
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from None
        return cls(Path(folder), config)

    def metrics(self) -> list[dict[str, Any]]:
        """The objects in ``metrics.jsonl``; a last line that is not whole is left out.

        Raises
        ------
        CheckpointError
            A line is damaged.
        """
        try:
            content = self.metrics_path.read_bytes()
        except FileNotFoundError:
            return []
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        try:
            objects: list[dict[str, Any]] = [json.loads(line) for line in lines]
        except ValueError as error:
            raise CheckpointError(f"{self.metrics_path}: damaged: {error}") from None
        return objects

    def vocabulary(self) -> dict[str, Any] | None:
        """What `keep_vocabulary` wrote, None if it was never called."""
        if not self.vocabulary_path.exists():
            return None
        found = _read_json(self.vocabulary_path, missing=f"{self.vocabulary_path}: missing")
        if found.get("level") not in ("char", "word") or not isinstance(found.get("tokens"), list):
            raise CheckpointError(f"{self.vocabulary_path}: damaged: expected level and tokens")
        return found

    def keep_vocabulary(self, level: str, tokens: tuple[str, ...]) -> None:
        """Keep a text's tokens, so that the model can be used without the text.

        Raises
        ------
        CheckpointError
            The run has other ones: the text is not the one that it began with.
        """
        from lstm_numba.training.checkpoint import atomic_write

        kept, new = self.vocabulary(), {"level": level, "tokens": list(tokens)}
        if kept is None:
            atomic_write(self.vocabulary_path, (json.dumps(new, ensure_ascii=False) + "\n").encode())
        elif kept != new:
            raise CheckpointError(
                f"{self.vocabulary_path}: the text has other {level}s than those that the run began with"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder; the lock goes with the process.

        Raises
        ------
        CheckpointError
            Another process trains here.
        """
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            yield
            return
        with self.config_path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CheckpointError(f"{self.folder}: another process is training in this folder") from None
            except OSError:
                pass  # the file system has no locks
            yield


def _read_json(path: Path, missing: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(missing) from None
    except NotADirectoryError:
        raise CheckpointError(missing) from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: damaged: expected an object")
    return content


class MetricsLog:
    """``metrics.jsonl`` while a training writes to it.

    Parameters
    ----------
    path : Path
    lines : int
        Lines that the checkpoint knows; later ones will be written again and are cut off.

    Attributes
    ----------
    lines : int
        Whole lines in the file.
    """

    def __init__(self, path: Path, lines: int) -> None:
        self._file: BinaryIO = path.open("a+b")
        self._file.seek(0)
        end = 0
        self.lines = 0
        while self.lines < lines:
            line = self._file.readline()
            if not line.endswith(b"\n"):
                break
            end += len(line)
            self.lines += 1
        self._file.truncate(end)

    def append(self, values: Mapping[str, Any]) -> None:
        """Write an object as one line; a number that JSON does not have (inf, NaN) becomes null."""
        clean = {name: _finite(value) for name, value in values.items()}
        self._file.write((json.dumps(clean) + "\n").encode())
        self._file.flush()
        self.lines += 1

    def sync(self) -> None:
        """Make sure that all lines are on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
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


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and value - value != 0 else value
