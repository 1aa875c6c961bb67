"""The device, its driver and the packages; exit status 1 where no device can be used."""

from __future__ import annotations

import shutil
import subprocess
from importlib import metadata

from lstm_numba.benchmarks.gpu.record import finish, guarded, say
from lstm_numba.benchmarks.results import machine
from lstm_numba.engines import find_cuda

_QUERY = "name,driver_version,clocks.sm,clocks.max.sm,memory.total"


def main() -> None:
    """Say what is here."""
    cuda = find_cuda()
    with guarded("versions"):
        found = machine()
        packages = {d.metadata["Name"]: d.version for d in metadata.distributions()}
        say("versions", **found, cuda_text=cuda.text, packages=dict(sorted(packages.items())))
    if shutil.which("nvidia-smi"):
        with guarded("nvidia-smi"):
            command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            say("nvidia-smi", lines=(done.stdout + done.stderr).splitlines())
    if not cuda.available:
        say("versions", failed=cuda.text)
    finish()


if __name__ == "__main__":
    main()
