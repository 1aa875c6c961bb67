"""``lstm-numba completion``: the script with which a shell completes the program's command lines."""

from __future__ import annotations

import click

from lstm_numba.cli.types import Choice, SectionedCommand, argument

#: The variable by which a shell asks the program for completions; Click makes it of the program's name.
VARIABLE = "_LSTM_NUMBA_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba completion bash
  lstm-numba completion zsh
  lstm-numba completion fish
""",
)
@argument("shell", "SHELL", "bash, zsh or fish.", type=Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script for SHELL that completes commands, options and their values with the Tab key.

    Cells, data sets, choices and run folders are completed, too. bash must be 4.4 or newer. To have it in
    every shell, add this line to ~/.bashrc, or to ~/.zshrc with zsh for bash:

    \b
      eval "$(lstm-numba completion bash)"

    For fish:

    \b
      lstm-numba completion fish > ~/.config/fish/completions/lstm-numba.fish
    """
    from click.shell_completion import get_completion_class

    from lstm_numba.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, shell
    made = kind(cli, {}, "lstm-numba", VARIABLE)
    # Not `source()`, which starts a bash to ask for its version.
    click.echo(made.source_template % made.source_vars())
