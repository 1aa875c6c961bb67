"""The page of the command line says what the program does."""

from __future__ import annotations

import click
import pytest
from pages import text_of

from lstm_numba.cli.main import COMMANDS, cli
from lstm_numba.cli.page import command_lines, page

TEXT = text_of("cli/README.md")


def command(*path: str) -> click.Command:
    """A command of the program."""
    found: click.Command | None = cli
    for name in path:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), name)
    assert found is not None
    return found


def option(name: str, *path: str) -> click.Option:
    """An option of a command."""
    (found,) = (one for one in command(*path).params if isinstance(one, click.Option) and name in one.opts)
    return found


def changed(name: str) -> list[str]:
    """Lines of the page that are no longer those of a command."""
    block = TEXT.split(f"<!-- command {name} -->\n")[1].split("\n<!-- end of command -->")[0]
    return [line for line in command_lines(name) if line not in block.splitlines()]


def test_the_page_is_the_programs() -> None:
    """If it is not: ``python -m lstm_numba.cli.page cli/README.md``."""
    assert page(TEXT).splitlines() == TEXT.splitlines()


def test_another_default_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option("--length", "sample"), "default", 201)
    (line,) = changed("sample")
    assert "| `--length` | `INTEGER` |" in line
    assert line.endswith("| `201` |")


def test_another_help_text_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option("--split", "evaluate"), "help", "A *part* | of it.  [default: <none>]")
    (line,) = changed("evaluate")
    assert line.endswith(r"| A \*part\* \| of it. | \<none> |")


def test_another_choice_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option("--format", "export"), "type", click.Choice(["onnx", "mat"]))
    assert "`onnx`, `mat`" in changed("export")[0]


def test_a_new_option_is_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    new = click.Option(["--loud/--quiet"], help="Say more.")
    monkeypatch.setattr(command("info"), "params", [*command("info").params, new])
    assert changed("info") == ["| Other options | `--loud`, `--quiet` |  | Say more. |  |"]


def test_a_lost_option_and_a_lost_data_set_leave_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    params = [one for one in command("train", "ptb").params if "--bptt" not in one.opts]
    monkeypatch.setattr(command("train", "ptb"), "params", params)
    (line,) = changed("train")
    assert "| `--bptt` |" in line
    assert "(`text`, `grammar`)" in line


def test_a_default_of_one_data_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option("--epochs", "train", "mnist"), "default", 11)
    (line,) = changed("train")
    assert "`mnist`: `11`" in line


def test_described_arguments_are_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = (one for one in command("stream").params if isinstance(one, click.Argument))
    monkeypatch.setattr(run, "help", "Where it is.", raising=False)
    assert "| `RUN` |  | Where it is. |" in changed("stream")


def test_every_command_has_its_place() -> None:
    """None is forgotten on the page, and none of another program stands there."""
    assert all(f"\n### `lstm-numba {name}`\n" in TEXT for name in COMMANDS)
    for name in ("wrong", "info"):
        with pytest.raises(ValueError, match=rf"expected a block for each of .*, got .*, {name}$"):
            page(TEXT + f"\n<!-- command {name} -->\n<!-- end of command -->\n")


def test_a_new_command_gets_a_place() -> None:
    before, heading, block = TEXT.rpartition("\n### `lstm-numba ")
    name = block.partition("`")[0]
    assert page(before) == f"{before}{heading}{name}`\n\n<!-- command {name} -->\n" + "".join(
        f"{line}\n" for line in (*command_lines(name), "<!-- end of command -->")
    )
