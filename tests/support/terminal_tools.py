"""Programs whose standard error is a terminal, and what such a terminal shows."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple


class Shown(NamedTuple):
    """What a program wrote."""

    out: str
    err: str
    status: int


def run_in_terminal(program: str, **variables: str) -> Shown:
    """Run Python code in a process whose standard error is a pseudo-terminal."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE, stderr=theirs, text=True, env={**os.environ, **variables},
    )  # fmt: skip
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux's way of saying that nobody has it open any more
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    out, _ = process.communicate()
    return Shown(out, b"".join(parts).decode().replace("\r\n", "\n"), process.returncode)


def screen(text: str) -> list[str]:
    """The lines that a terminal shows after a text, without spaces at their ends.

    The cursor stands in the last one.
    """
    lines, column = [""], 0
    for character in text:
        if character == "\n":
            lines.append("")
            column = 0
        elif character == "\r":
            column = 0
        elif character == "\b":
            column = max(column - 1, 0)
        else:
            lines[-1] = lines[-1][:column].ljust(column) + character + lines[-1][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


class NotebookStream:
    """Keeps what is written, as a notebook's standard error would be told."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        """Keep it."""
        self.writes.append(text)
        return len(text)

    def flush(self) -> None:
        """Nothing to do."""

    def isatty(self) -> bool:
        """As a notebook's."""
        return False

    @property
    def text(self) -> str:
        """All that was written."""
        return "".join(self.writes)


NotebookStream.__module__ = "ipykernel.iostream"
