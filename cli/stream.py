"""``lstm-numba stream``: predictions from rows of a table as they come in."""

from __future__ import annotations

import click

from lstm_numba.cli.options import checkpoint_option, run_cell_option, threads_option
from lstm_numba.cli.types import RunFolder, SectionedCommand, argument


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba stream runs/series-1
  lstm-numba stream runs/series-1 --checkpoint best --threads 1
""",
)
@argument("run", "RUN", "Run folder of series.", type=RunFolder())
@checkpoint_option
@run_cell_option
@threads_option
def stream(run: str, checkpoint: str | None, cell: str | None, threads: int | None) -> None:
    """Read rows of a table from standard input and write predictions to standard output, row by row.

    Input and output are CSV with a header. A model of windows predicts as soon as there are enough rows; a
    model of whole groups predicts after each row from the rows so far. The columns may be in any order; the
    targets are needed for forecasts only.
    """
    import csv
    import sys

    from lstm_numba.cli.console import Terminal
    from lstm_numba.cli.custom_cells import use_run_cell
    from lstm_numba.cli.resources import set_threads
    from lstm_numba.cli.run_folder import open_run
    from lstm_numba.errors import DataError

    opened = open_run(run, "series", "stream")
    set_threads(threads)
    use_run_cell(opened.config, cell, run)
    from lstm_numba.training.compile_watch import CompileWatch
    from lstm_numba.training.series import SeriesTask
    from lstm_numba.training.series_prediction import SeriesStream, heading
    from lstm_numba.training.tasks import open_task

    task = open_task(opened, load_data=False, which=checkpoint)
    assert isinstance(task, SeriesTask)
    # readline: a row is answered when it is there, not when a buffer is full.
    reader = csv.reader(iter(sys.stdin.readline, ""), strict=True, skipinitialspace=True)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    try:
        names = [name.strip() for name in next(reader, [])]
        if not names:
            raise DataError("standard input: expected a header and rows, got nothing")
        names[0] = names[0].removeprefix("\ufeff")
        rows = SeriesStream(task, names)
        writer.writerow(heading(task, streamed=True))
        sys.stdout.flush()
        with CompileWatch(Terminal()):
            for fields in reader:
                if fields:
                    writer.writerows(rows.push(fields, reader.line_num))
                    sys.stdout.flush()
    except csv.Error as error:
        raise DataError(f"standard input: row {reader.line_num}: {error}") from None
    except UnicodeDecodeError:
        raise DataError(f"standard input: row {reader.line_num + 1}: not UTF-8 text") from None
