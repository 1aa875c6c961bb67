"""``lstm-numba sweep``: many trainings with settings that Optuna draws, and what mattered."""

from __future__ import annotations

from pathlib import Path

import click

from lstm_numba.cli.options import POSITIVE, data_dir_option, device_option, json_option, threads_option
from lstm_numba.cli.types import Folder, SectionedCommand, argument, option


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba sweep --example
  lstm-numba sweep sweep.toml
  lstm-numba sweep sweep.toml --jobs 2
  lstm-numba sweep sweep.toml --report
  lstm-numba sweep sweep.toml --storage postgresql://me@host/sweeps --out /scratch/sweep

\b
A small file:
  command = "train digits"
  [ranges]
  lr = {low = 1e-4, high = 1e-1, log = true}
  cell = ["lstm", "gru"]
""",
)
@argument("file", "[FILE]", "Description of the sweep, in TOML.", required=False, type=click.Path())
@option(
    "Sweep", "--example", is_flag=True, help="Print a file to begin with, with comments, and nothing else."
)
@option(
    "Sweep",
    "--jobs",
    type=POSITIVE,
    default=1,
    show_default=True,
    help="Processes to train in on this machine; they share its threads.",
)
@option(
    "Sweep",
    "--storage",
    metavar="URL",
    help="Database of the study, as Optuna takes it.  [default: the SQLite file study.db in the folder]",
)
@option(
    "Sweep",
    "--out",
    type=Folder(),
    metavar="FOLDER",
    help="Folder of the sweep, with a run folder for each trial.  [default: sweeps/NAME, by the file's name]",
)
@option("Sweep", "--report", is_flag=True, help="Train nothing; say what there is, also while others train.")
@data_dir_option
@device_option
@threads_option
@json_option
def sweep(
    file: str | None,
    example: bool,
    jobs: int,
    storage: str | None,
    out: str | None,
    report: bool,
    data_dir: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Try the settings that FILE names ranges of, and say which are best, and which mattered.

    FILE (TOML) says what lstm-numba train is to train, and with what. Optuna, which the extra "sweep"
    installs, draws the settings of each trial; trials that are worse than others were at the same epoch
    are given up. Each trial is a run folder like any other: trial-0000, trial-0001, ...

    Call it again, and it goes on where it was stopped, even by kill -9. Call it several times at once, also
    on several machines with a common folder: each trial is trained once. For more trials change
    their number in FILE.
    """
    if example:
        from lstm_numba.sweeps.example import EXAMPLE

        click.echo(EXAMPLE, nl=False)
        return
    if file is None:
        raise click.UsageError("Missing argument 'FILE': ranges, in TOML; --example prints one to begin with")
    if storage is not None and "://" not in storage:
        raise click.UsageError(f"--storage: expected a URL such as sqlite:///study.db, got {storage!r}")
    from lstm_numba.cli.sweeping import Options, report_sweep, train_sweep
    from lstm_numba.sweeps.reading import read_sweep

    config = read_sweep(file)
    folder = Path("sweeps", config.name) if out is None else Path(out)
    options = Options(file, str(folder), storage, data_dir, device, threads)
    if not report:
        train_sweep(config, options, jobs)
    report_sweep(config, options, as_json)
