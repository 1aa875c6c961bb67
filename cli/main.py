"""The program `lstm-numba`: calls the command, and turns every error into one line and an exit status.

Nothing slow is imported here: a command's module is loaded when that command is called, so that
``lstm-numba --help`` is fast.

Exit status: 0 success; 1 error; 2 wrong usage; 130 interrupted (Ctrl-C); 143 terminated (SIGTERM).
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from lstm_numba import __version__
from lstm_numba.cli.types import LazyGroup
from lstm_numba.errors import CacheWarning, UserError
from lstm_numba.ranks.launcher import launched
from lstm_numba.training.signals import Interrupted

#: Environment variable that shows tracebacks.
DEBUG_VARIABLE = "LSTM_NUMBA_DEBUG"

#: Command -> (module, one line for the list of commands). The module defines a command of the module's name.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("lstm_numba.cli.train", "Train a network on a data set, or resume a run."),
    "sweep": ("lstm_numba.cli.sweep", "Search hyperparameters with Optuna, and rank their importance."),
    "evaluate": ("lstm_numba.cli.evaluate", "Evaluate a run on a data split: loss and metrics."),
    "predict": ("lstm_numba.cli.predict", "Classify images; forecast, regress or classify series."),
    "stream": ("lstm_numba.cli.stream", "Predict from rows of a table as they arrive."),
    "sample": ("lstm_numba.cli.sample", "Generate text with a trained language model."),
    "plot": (
        "lstm_numba.cli.plot",
        "Plot learning curves, confusion matrix, perplexity, forecasts.",
    ),
    "inspect": ("lstm_numba.cli.inspect_", "Show gates and states of a trained network for an input."),
    "experiment": (
        "lstm_numba.cli.experiments.experiment",
        "Test published claims about recurrent networks.",
    ),
    "export": ("lstm_numba.cli.export", "Write a run's weights for ONNX, C, PyTorch, Keras or NumPy."),
    "import": ("lstm_numba.cli.import_", "Import weights from ONNX, PyTorch, Keras or NumPy."),
    "bench": ("lstm_numba.cli.bench", "Benchmark layers against PyTorch and ONNX Runtime."),
    "warmup": ("lstm_numba.cli.warmup", "Compile the kernels of a training in advance."),
    "data": ("lstm_numba.cli.data", "List, download and verify data sets."),
    "cache": ("lstm_numba.cli.cache", "Show and remove compiled kernels and downloaded data."),
    "completion": ("lstm_numba.cli.completion", "Print a script that completes commands in a shell."),
    "info": ("lstm_numba.cli.info", "Show versions, CPU, threads, CUDA device, caches and data sets."),
}


class _EndOfFile(Exception):
    """Wraps an EOFError, which Click would treat as an interrupt."""


class Program(LazyGroup):
    """The group of all commands."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise _EndOfFile from error


EPILOG = """\b
Examples:
  lstm-numba train digits
  lstm-numba evaluate runs/digits-1
  lstm-numba train ptb --preset small --data-dir ~/ptb --out runs/small
  lstm-numba sample runs/small --prompt "the company said"
"""


@click.group(
    name="lstm-numba",
    cls=Program,
    homes=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog=EPILOG,
)
@click.version_option(__version__, "-V", "--version", prog_name="lstm-numba")
def cli() -> None:
    """Train and use recurrent neural networks (LSTM, GRU, RNN) on CPUs and CUDA GPUs.

    Results are written to standard output, messages to standard error; --json prints the result as one JSON
    object.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status; never raises.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments without the program's name; by default those of the process.
    """
    return guarded(
        lambda: cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="lstm-numba",
            standalone_mode=False,
        )
    )


def guarded(work: Callable[[], Any]) -> int:
    """Do what a process of the program is for, and return its exit status; never raises.

    Parameters
    ----------
    work : callable
        What it returns is the exit status, if it is a number.
    """
    if hasattr(sys.stdout, "reconfigure"):  # characters that its encoding lacks become "?"
        sys.stdout.reconfigure(errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            status = work()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except BaseException as error:
        if os.environ.get(DEBUG_VARIABLE) not in (None, "", "0"):
            import traceback

            traceback.print_exc()
        return report(error)


def report(error: BaseException, head: str = "") -> int:
    """Write one line about the error, after `head`, and return the exit status."""
    if isinstance(error, _EndOfFile) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, BrokenPipeError):  # the reader has gone (`... | head`): nothing to report
        _discard(sys.stdout)
        return 1
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        _say(f"{head}interrupted")
        return 128 + signal.SIGINT
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, click.UsageError):
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its message is the help
            error.show()
            return error.exit_code
        if launched().rank and not head:  # the first of several processes says it
            return 2
        path = error.ctx.command_path if error.ctx is not None else "lstm-numba"
        _say(f"{head}error: {_one_line(error.format_message()).rstrip('.')} (try '{path} -h')")
        return 2
    if isinstance(error, click.ClickException):
        _say(f"{head}error: {_one_line(error.format_message())}")
        return error.exit_code
    if isinstance(error, Interrupted):  # of one rank, for which others wait
        _say(f"{head}{_one_line(error)}")
        return error.exit_status
    if isinstance(error, UserError):
        _say(f"{head}error: {_one_line(error)}")
        return 1
    if isinstance(error, MemoryError):
        _say(f"{head}error: out of memory: {_one_line(error) or 'reduce the network or the batch size'}")
        return 1
    if isinstance(error, OSError) and error.strerror:
        _discard(sys.stdout)  # if standard output failed, the interpreter must not try again
        where = f"{error.filename}: " if error.filename is not None else ""
        _say(f"{head}error: {_one_line(where + error.strerror)}")
        return 1
    _say(f"{head}error: {type(error).__name__}: {_one_line(error)} ({DEBUG_VARIABLE}=1 shows where)")
    return 1


def _warn(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Show the library's own warnings as one line, others as Python does."""
    if issubclass(category, CacheWarning):
        _say(f"warning: {_one_line(message)}")
    else:
        _show(message, category, *where, **more)


_show = warnings.showwarning


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


def _say(line: str) -> None:
    try:
        click.echo(line, err=True)
    except OSError:  # standard error is gone too: only the exit status is left
        _discard(sys.stderr)


def _discard(stream: Any) -> None:
    """Redirect a broken standard stream to the null device, so that flushing it at exit is silent."""
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (OSError, ValueError, AttributeError):
            return


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(run())
