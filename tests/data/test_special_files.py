"""What is no file of the kind that is expected: pipes, devices, folders, sockets; files that swell."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from cli_tools import invoke
from import_tools import refused

import lstm_numba as ln
from lstm_numba.data import file_io, image_files
from lstm_numba.errors import DataError, WeightsError
from lstm_numba.interop.files import npz_file, opening

#: Tries every reader on every path in a process that may take 1 GiB more and is killed where it hangs. A line
#: for each: reader, path, what came.
PROGRAM = """
import json, resource, sys
from pathlib import Path

import lstm_numba as ln
from lstm_numba.cli.image_argument import named_images
from lstm_numba.data import file_io, idx, image_files, ptb, text
from lstm_numba.interop.any_format import open_source

readers = {
    "npz": ln.load_weights, "safetensors": ln.load_weights, "keras": ln.load_keras, "onnx": ln.load_onnx,
    "source": open_source, "idx": idx.read_idx, "picture": image_files.read_picture,
    "images": image_files.read_images, "named": lambda path: named_images(str(path), [0], None),
    "text": text.load, "splits": lambda path: ptb.read_splits(path, path, path), "file": file_io.read_file,
}
endings = {"safetensors": ".safetensors", "onnx": ".onnx", "npz": ".npz", "keras": ".npz", "source": ".npz"}
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30),) * 2)
for name, read in readers.items():
    for kind in sys.argv[2:]:
        path = Path(sys.argv[1]) / (kind + endings.get(name, ""))
        try:
            read(path)
            came = "nothing"
        except Exception as error:
            came = f"{type(error).__name__}: {error}"
        print(json.dumps([name, str(path), kind, came]), flush=True)
"""
#: What stands in a file's place -> what is said of it.
KINDS = {
    "pipe": "not a regular file",
    "zero": "not a regular file",
    "socket": "not a regular file",
    "folder": "is a folder",
    "absent": "no such file",
    "loop": "cannot be read: ",
    "huge": "too large: 8589934592 bytes",
}


def place(kind: str, path: Path) -> None:
    """Put something in a file's place."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 33)  # takes no room on disk


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pipes and devices are Linux's here")
def test_every_reader_refuses_what_is_no_file(tmp_path: Path) -> None:
    for kind in KINDS:
        for ending in ("", ".npz", ".safetensors", ".onnx"):
            place(kind, tmp_path / (kind + ending))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path, *KINDS], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 12 * len(KINDS)
    for name, path, kind, came in lines:
        wanted = "WeightsError" if path.endswith((".npz", ".safetensors", ".onnx")) else "DataError"
        assert came.startswith(f"{wanted}: {path}: {KINDS[kind]}"), (name, came)
    # In the command line one line, and nothing is left behind.
    os.mkfifo(tmp_path / "w.npz")
    left = {path.name for path in tmp_path.iterdir()}
    answer = invoke("import", tmp_path / "w.npz", "--out", tmp_path / "out.npz")
    refused(answer, tmp_path, left, f"{tmp_path / 'w.npz'}: not a regular file")


def test_sizes_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert file_io.read_file(path, 5) == b"12345"
    with pytest.raises(WeightsError, match="a: too large: 5 bytes; at most 4 are read"):
        file_io.read_file(path, 4, WeightsError)
    with pytest.raises(WeightsError, match="not a file name"):
        file_io.read_file("a\0b", kind=WeightsError)


def test_gzip_files_that_swell(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(3_000_000)))
    with pytest.raises(DataError, match="the content is longer than 1000000 bytes"):
        file_io.read_content(path, 1_000_000)
    assert file_io.read_content(path, 3_000_000) == bytes(3_000_000)
    # Members are free of content, and each costs time.
    path.write_bytes(gzip.compress(b"") * 65_537)
    with pytest.raises(DataError, match="more than 65536 members"):
        file_io.read_content(path)
    path.write_bytes(gzip.compress(b"") * 1000 + gzip.compress(b"abc") * 2)
    assert file_io.read_content(path) == b"abcabc"


def npz_of(path: Path, count: int, compression: int, data: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for number in range(count):
            archive.writestr(f"{number}.npy", data)


def test_archives_that_swell(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    npz_of(path, 10_001, zipfile.ZIP_STORED)
    with pytest.raises(WeightsError, match=r"w\.npz: an archive of 10001 files; at most 10000 are read"):
        ln.load_weights(path)
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        npz_of(path, 1, compression, bytes(1000))
        with pytest.raises(WeightsError, match=r"0\.npy: packed in a way that is not read"):
            ln.load_weights(path)


def test_all_of_an_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the archive is itself."""
    path, held = tmp_path / "w.npz", io.BytesIO()
    np.lib.format.write_array(held, np.zeros(1000))
    npz_of(path, 1, zipfile.ZIP_STORED, held.getvalue())
    for module in (opening, npz_file):
        monkeypatch.setattr(module, "LARGEST", 8000)
    with pytest.raises(WeightsError, match="too large"):
        ln.load_weights(path)
    npz_of(path, 1, zipfile.ZIP_DEFLATED, held.getvalue())
    with pytest.raises(WeightsError, match="bytes that say they are 8128"):
        ln.load_weights(path)


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_pictures_that_swell(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    path, start = tmp_path / "a.png", b"\x89PNG\r\n\x1a\n"
    for width, height in ((50_000, 1_001), (1 << 30, 1 << 30)):
        head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        path.write_bytes(start + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))))
        with pytest.raises(DataError, match=r"too large|damaged"):
            image_files.read_picture(path)
    # A text of 200 MB in 200 kB.
    head = struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000), 1))
    path.write_bytes(start + chunk(b"IHDR", head) + text + chunk(b"IDAT", zlib.compress(bytes(29 * 28))))
    with pytest.raises(DataError, match=r"a\.png: damaged image: .*[Dd]ecompress|image is blank"):
        image_files.read_picture(path)
