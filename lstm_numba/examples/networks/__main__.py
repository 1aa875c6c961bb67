"""All pages, each in a process of its own, as one table.

    pip install onnx onnxruntime torch h5py keras
    python -m lstm_numba.examples.networks --out networks.json

prints the table as Markdown, and writes it with all times, the machine and the versions. The packages are
downloaded, 100 MB, into a temporary folder or that of ``--download``. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lstm_numba import __version__
from lstm_numba.engines.cpu.cpu_features import vector_unit
from lstm_numba.environment import processor_name, versions
from lstm_numba.examples.networks.comparison import duration
from lstm_numba.timing import protocol

#: Page -> numbers of threads, of those that the network can make use of.
PAGES = {
    "silero_vad": (1,),
    "g2p_en": (1, 2),
    "resemblyzer": (1, 2),
    "sleepecg": (1,),
    "g2pm": (1,),
    "ddddocr": (1, 2),
}
#: What libraries read before they start threads; NumPy's BLAS has no other switch.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PEERS = ("numpy", "numba", "onnx", "onnxruntime", "torch", "keras", "h5py")


def run_page(page: str, threads: int, repeats: int, folder: Path) -> list[dict[str, Any]]:
    """The rows of a page, or one that says why there are none."""
    result = folder / f"{page}-{threads}.json"
    command = [
        sys.executable, "-m", f"lstm_numba.examples.networks.{page}", "--download", str(folder),
        "--threads", str(threads), "--repeats", str(repeats), "--json", str(result),
    ]  # fmt: skip
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    done = subprocess.run(command, env=environment, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"{page}: {reason}", file=sys.stderr)
        return [{"page": page, "threads": threads, "failed": reason}]
    rows = json.loads(result.read_text())
    result.unlink()
    return [{"page": page, **row} for row in rows]


def table(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The rows as lines of Markdown."""
    head = "package", "what", "threads", "largest difference", "ours", "original", "times faster (quartiles)"
    lines = [head, ("---",) * len(head)]
    for row in rows:
        if "failed" in row:
            lines.append((row["page"], row["failed"], str(row["threads"]), *[""] * 4))
            continue
        first, third = row["ratio_quartiles"]
        lines.append(
            (f"{row['package']} {row['version']}", row["what"], str(row["threads"]),
             f"{row['difference']:.0e}" if row["difference"] else "0",
             f"{duration(row['ours'])} a {row['unit']}",
             f"{duration(row['theirs'])}, {row['rival']}", f"{row['ratio']:.2f} ({first:.2f} to {third:.2f})")
        )  # fmt: skip
    return [f"| {' | '.join(line)} |" for line in lines]


def machine() -> dict[str, Any]:
    """What the numbers are measured with."""
    return {
        "cpu": processor_name(),
        "vector_unit": vector_unit().name,
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **versions(PEERS),
        "lstm_numba": __version__,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the pages, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the rows, with all times, to this JSON file")
    parser.add_argument("--download", type=Path, metavar="FOLDER", help="keep the networks here")
    parser.add_argument("--page", choices=PAGES, action="append", help="may be repeated  [default: all]")
    parser.add_argument("--repeats", type=int, default=11, help="repeats of each timing  [default: 11]")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.download or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            row
            for page in options.page or PAGES
            for threads in PAGES[page]
            for row in run_page(page, threads, options.repeats, folder)
        ]
    found = machine()
    print("\n".join(table(rows)))
    print(f"\n{found['cpu']}, {found['vector_unit']}, {found['cores']} cores;", end=" ")
    print(", ".join(f"{name} {found[name]}" for name in (*PEERS, "lstm_numba") if found[name]))
    if options.out:
        command = shlex.join(["python", "-m", "lstm_numba.examples.networks", *(arguments or sys.argv[1:])])
        document = {"command": command, "protocol": protocol(options.repeats), "machine": found, "rows": rows}
        options.out.write_text(json.dumps(document, indent=1) + "\n")
    raise SystemExit(int(any("failed" in row for row in rows)))


if __name__ == "__main__":
    main()
