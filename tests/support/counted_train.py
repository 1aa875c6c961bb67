"""``lstm-numba`` where each reading of digits adds a line to the file READS, and one rank may fail.

    mpiexec -n 2 python counted_train.py train digits ...

With FAIL=RANK:STEP that rank raises an error when it gets its rows of that step.
"""

from __future__ import annotations

import os
from typing import Any

from lstm_numba.cli.main import main
from lstm_numba.data import digits
from lstm_numba.ranks.launcher import launched
from lstm_numba.training.classification import ImageTask

_load, _share = digits.load, ImageTask.share


def load(split: str, seed: int = 0, count: int | None = None) -> Any:
    """Note it, and draw few images to test on."""
    with open(os.environ["READS"], "a", encoding="utf-8") as file:
        file.write(f"{split}\n")
    return _load(split, seed, 60 if split == "test" else count)


def share(task: ImageTask, epoch: int, step: int) -> Any:
    """Fail where that is wanted."""
    if os.environ.get("FAIL") == f"{launched().rank}:{step}":
        raise OSError(5, "Input/output error", "/data/images")
    return _share(task, epoch, step)


digits.load = load
ImageTask.share = share  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
