"""What a kernel's machine code says of its inner loops: instructions for each multiply-add."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

_LABEL = re.compile(r"^(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*?);")
_MULTIPLY_ADDS = ("FFMA", "DFMA")
#: A loop with fewer multiply-adds is none over the depth of a product.
_LEAST = 8


class Loop(NamedTuple):
    """An innermost loop.

    Attributes
    ----------
    instructions, multiply_adds : int
    source : {"shared", "global", "none"}
        Where it reads from: global memory, if any, else shared memory.
    """

    instructions: int
    multiply_adds: int
    source: str

    @property
    def ratio(self) -> float:
        """Instructions for each multiply-add."""
        return self.instructions / self.multiply_adds


def disassemble(nvdisasm: str, cubin: Path) -> str:
    """The machine code of a compiled kernel as text."""
    return subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout


def product_loops(code: str) -> list[Loop]:
    """The innermost loops over the depth of a product, in the order of the code."""
    place: dict[str, int] = {}
    names: list[str] = []
    found: list[Loop] = []
    last_end = -1
    for line in code.splitlines():
        if label := _LABEL.match(line):
            place[label[1]] = len(names)
        elif instruction := _INSTRUCTION.match(line):
            names.append(instruction[1])
            target = re.search(r"\.L_x_\d+", instruction[2]) if instruction[1] == "BRA" else None
            if target and place.get(target[0], -1) >= max(0, last_end):  # backwards, and no loop in between
                loop = names[place[target[0]] :]
                last_end = len(names)
                count = sum(name.startswith(_MULTIPLY_ADDS) for name in loop)
                if count >= _LEAST:
                    source = "global" if _reads(loop, "LDG") else "shared" if _reads(loop, "LDS") else "none"
                    found.append(Loop(len(loop), count, source))
    return found


def _reads(names: list[str], instruction: str) -> bool:
    return any(name == instruction or name.startswith(f"{instruction}.") for name in names)
