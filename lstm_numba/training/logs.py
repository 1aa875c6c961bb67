"""What a training writes of its course: ``metrics.jsonl``, and the same lines in other forms.

``metrics.jsonl`` is the record, and checkpoints count its lines. Each of the others is made anew from it when
a training starts or goes on, and then grows with it: so none lacks a line or has one twice, however often the
training was killed, and a run may be given another form later.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from types import TracebackType
from typing import Any, BinaryIO

from lstm_numba.errors import UserError
from lstm_numba.training.callbacks import Evaluation
from lstm_numba.training.run import MetricsLog, Run, json_line, naming, refuse_irregular
from lstm_numba.training.settings import MEASURES, read_forms

#: Columns of ``metrics.csv``.
COLUMNS = (
    *("kind", "split", "step", "epoch"),
    *(one.name for one in fields(Evaluation) if one.name not in ("split", "count", "measures")),
    *MEASURES,
    *("lr", "norm", "seconds", "rate"),
)
#: What says where a line belongs, in the names that TensorBoard shows and on its axis.
_PLACE = ("kind", "split", "step", "epoch")


class Log:
    """A form of the metrics beside ``metrics.jsonl``."""

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line of metrics as JSON has it; None stands for infinity."""
        raise NotImplementedError

    def sync(self) -> None:
        """Hand what was written to the system."""

    def close(self) -> None:
        """Close the files."""


class CsvLog(Log):
    """``metrics.csv``: a column for each value, empty where a line has none.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self._path = run.folder / "metrics.csv"
        refuse_irregular(self._path)
        self._file: BinaryIO = self._path.open("wb")
        self._write(dict(zip(COLUMNS, COLUMNS, strict=True)))

    def append(self, line: Mapping[str, Any]) -> None:
        """See `Log.append`."""
        self._write({name: math.inf if value is None else value for name, value in line.items()})

    def _write(self, values: Mapping[str, Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([values.get(name, "") for name in COLUMNS])
        with naming(self._path):
            self._file.write(text.getvalue().encode())
            self._file.flush()

    def close(self) -> None:
        """See `Log.close`."""
        self._file.close()


class TensorBoardLog(Log):
    """Event files in the folder ``tensorboard``, for the program of that name.

    A value is called by where it belongs: ``step/train/loss``, ``epoch/valid/accuracy``, ``step/train/norm``.
    The horizontal axis is the number of steps.

    Parameters
    ----------
    run : Run

    Raises
    ------
    UserError
        The package is not installed.
    """

    def __init__(self, run: Run) -> None:
        require_tensorboard()
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = run.folder / "tensorboard"
        for left in folder.glob("events.out.tfevents.*"):  # what it holds is written again
            left.unlink()
        self._event, self._summary = event_pb2, summary_pb2
        self._writer = EventFileWriter(str(folder))
        # A TensorBoard that is running forgets what it has read.
        started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step=0, session_log=started)

    def append(self, line: Mapping[str, Any]) -> None:
        """See `Log.append`."""
        values = [
            self._summary.Summary.Value(
                tag=f"{line['kind']}/{line['split']}/{name}",
                simple_value=math.inf if value is None else value,
            )
            for name, value in line.items()
            if name not in _PLACE
        ]
        self._add(step=line["step"], summary=self._summary.Summary(value=values))

    def _add(self, **content: Any) -> None:
        self._writer.add_event(self._event.Event(wall_time=time.time(), **content))

    def sync(self) -> None:
        """See `Log.sync`."""
        self._writer.flush()

    def close(self) -> None:
        """See `Log.close`."""
        self._writer.close()


#: Name in a configuration -> class.
LOGS: dict[str, Callable[[Run], Log]] = {"csv": CsvLog, "tensorboard": TensorBoardLog}


def require_tensorboard() -> None:
    """Check that the package `tensorboard` can be imported.

    Raises
    ------
    UserError
        It cannot; the text says how to install it.
    """
    try:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401
    except ImportError:
        raise UserError("event files need tensorboard: pip install 'lstm_numba[tensorboard]'") from None


def check_logs(names: Sequence[str]) -> None:
    """Refuse forms that cannot be written here, before a run is made; see `require_tensorboard`."""
    if "tensorboard" in names:
        require_tensorboard()


class Logs:
    """``metrics.jsonl`` and the other forms that the run's setting `log` names, while a training writes.

    Parameters
    ----------
    run : Run
    lines : int
        Lines that the checkpoint counts, see `MetricsLog`.
    """

    def __init__(self, run: Run, lines: int) -> None:
        with ExitStack() as stack:  # closes what is open if another one cannot be opened
            self._metrics = MetricsLog(run.metrics_path, lines)
            stack.callback(self._metrics.close)
            self._others: list[Log] = []
            names = read_forms(run.config["log"])
            known = run.metrics() if names else []
            for name in names:
                log = LOGS[name](run)
                stack.callback(log.close)
                self._others.append(log)
                for line in known:
                    log.append(line)
            self._open = stack.pop_all()

    @property
    def lines(self) -> int:
        """Complete lines of ``metrics.jsonl``."""
        return self._metrics.lines

    def append(self, values: Mapping[str, Any]) -> None:
        """Write an object as one line of each form."""
        self._metrics.append(values)
        if self._others:
            line = json.loads(json_line(values))
            for log in self._others:
                log.append(line)

    def sync(self) -> None:
        """Make sure that all lines of ``metrics.jsonl`` are on disk."""
        self._metrics.sync()
        for log in self._others:
            log.sync()

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()
