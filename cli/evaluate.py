"""``lstm-numba evaluate``: loss and accuracy or perplexity of a run on a split of its data."""

from __future__ import annotations

import math

import click

from lstm_numba.cli.options import (
    checkpoint_option,
    data_dir_option,
    device_option,
    json_option,
    run_cell_option,
    threads_option,
)
from lstm_numba.cli.shell_values import one_of
from lstm_numba.cli.types import RunFolder, SectionedCommand, argument, option


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba evaluate runs/digits-1
  lstm-numba evaluate runs/ptb-1 --split valid --json
  lstm-numba evaluate runs/ten-seeds
""",
)
@argument("run", "RUN", "Run folder, or folder of a set of runs.", type=RunFolder())
@option(
    "Options",
    "--split",
    default="test",
    show_default=True,
    metavar="SPLIT",
    shell_complete=one_of("train", "valid", "test"),
    help="Split to evaluate: train, valid or test.",
)
@checkpoint_option
@run_cell_option
@data_dir_option
@device_option
@threads_option
@json_option
def evaluate(
    run: str,
    split: str,
    checkpoint: str | None,
    cell: str | None,
    data_dir: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Evaluate RUN, a run folder or a set of runs, on a split of its data.

    For classifiers: mean cross-entropy (nats per image) and accuracy. For language models: mean cross-entropy
    (nats per token) and perplexity; for grammar also its lower bound (source entropy). For series: mean loss;
    MAE, RMSE, MASE and NSE of numbers, accuracy, macro-F1 and ROC-AUC of classes.

    For a set of runs (`train --seeds`, `train series --per-group`): a row per complete run, and a summary.
    """
    from lstm_numba.cli.console import Terminal, print_json, result_line, result_object
    from lstm_numba.cli.custom_cells import use_run_cell
    from lstm_numba.cli.resources import choose_device, set_threads
    from lstm_numba.errors import UserError
    from lstm_numba.training.run import Run
    from lstm_numba.training.run_sets import is_set

    if is_set(run):
        from lstm_numba.cli.set_use import evaluate_set

        options = {"checkpoint": checkpoint, "cell": cell, "data_dir": data_dir, "device": device}
        evaluate_set(run, split, {**options, "threads": threads, "as_json": as_json})
        return
    opened = Run.open(run)
    device = choose_device(device)
    set_threads(threads)
    use_run_cell(opened.config, cell, run)
    from lstm_numba.training.compile_watch import CompileWatch
    from lstm_numba.training.tasks import open_task

    terminal = Terminal()
    task = open_task(opened, data_dir=data_dir, device=device, which=checkpoint)
    with CompileWatch(terminal):
        result = task.evaluate(split, progress=lambda done, total: terminal.on_evaluation(split, done, total))
    terminal.clear()
    if not math.isfinite(result.loss):
        raise UserError(f"{run}: the loss on {split} is {result.loss:g}: the model's weights are too large")
    if as_json:
        print_json(result_object(result, task.floor))
    else:
        click.echo(result_line(result, task.floor))
