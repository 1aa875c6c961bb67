"""Whether a launcher of MPI started this process with others. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

#: Environment variables of launchers: the number of processes, and which one this is. Open MPI; MPICH, Intel
#: MPI and Cray's (Hydra, PALS); MVAPICH; Slurm's srun, where only a step's variables mean processes.
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("PALS_SIZE", "PALS_RANKID"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)


class Launched(NamedTuple):
    """Which of how many processes this is."""

    rank: int
    size: int


def launched(environment: Mapping[str, str] | None = None) -> Launched:
    """What a launcher says of this process; the only one if there is no launcher. Imports nothing.

    Parameters
    ----------
    environment : mapping, optional
        Environment variables; those of the process by default.
    """
    found = os.environ if environment is None else environment
    for size, rank in _LAUNCHERS:
        try:
            here = Launched(int(found[rank]), int(found[size]))
        except (KeyError, ValueError):
            continue
        if here.size > 1:
            return here
    return Launched(0, 1)
