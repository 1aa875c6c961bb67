"""What a misspelt command, option or value may have meant."""

from __future__ import annotations

from collections.abc import Iterable

import click

from lstm_numba.wording import nearest_name

#: What other programs call an option -> what it is here; suggested by commands that have the option.
OTHER_NAMES = {
    "--gpu": "--device cuda",
    "--cuda": "--device cuda",
    "--cpu": "--device cpu",
    "--learning-rate": "--lr",
    "--batch": "--batch-size",
    "--bs": "--batch-size",
    "--hidden-size": "--hidden",
    "--hidden-units": "--hidden",
    "--units": "--hidden",
    "--num-layers": "--layers",
    "--n-layers": "--layers",
    "--num-epochs": "--epochs",
    "--n-epochs": "--epochs",
    "--embedding-size": "--embedding",
    "--embedding-dim": "--embedding",
    "--model": "--cell",
    "--output": "--out",
    "--output-dir": "--out",
    "--out-dir": "--out",
    "--data": "--data-dir",
    "--data-path": "--data-dir",
    "--num-threads": "--threads",
    "--workers": "--threads",
    "--color": "--colour",
    "--grad-clip": "--clip",
    "--max-norm": "--clip",
    "--gradient-clipping": "--clip",
    "--seq-len": "--bptt",
    "--random-seed": "--seed",
    "--continue": "--resume",
}


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """The end of a message about a name that does not exist; empty if none of the options is near."""
    near = nearest_name(name, options)
    return f". Did you mean {near!r}?" if near else ""


def no_such_option(name: str, ctx: click.Context) -> str:
    """The message about an option that a command does not have."""
    known = [flag for param in ctx.command.get_params(ctx) for flag in (*param.opts, *param.secondary_opts)]
    flags = [flag for flag in known if flag.startswith("--")]
    meant = OTHER_NAMES.get(name, "")
    if meant.partition(" ")[0] in flags:
        return f"No such option {name!r}. Did you mean {meant!r}?"
    begun = [flag for flag in flags if len(name) > 3 and flag.startswith(name)]
    end = f". Did you mean {begun[0]!r}?" if begun else did_you_mean(name, flags)
    return f"No such option {name!r}{end}"


def no_such_command(name: str, commands: Iterable[str]) -> str:
    """The message about a command that a group does not have."""
    names = list(commands)
    end = did_you_mean(name, names) or f": expected one of {', '.join(names)}"
    return f"No such command {name!r}{end}"
