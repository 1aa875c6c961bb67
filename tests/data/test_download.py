"""Downloading from a server of our own that misbehaves in every way we could think of."""

from __future__ import annotations

import gzip
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_numba.data import download, store
from lstm_numba.data.catalog import DataFile, Dataset
from lstm_numba.data.download import MirrorsFailed, Progress
from lstm_numba.data.file_io import fault, sha256
from lstm_numba.errors import DataError

CONTENT = {
    "one.txt": np.random.default_rng(1).integers(97, 123, 200_000, dtype=np.uint8).tobytes(),
    "two.txt": b"two words\n" * 50,
}


@dataclass
class Server:
    """A server; `ways` maps a mirror's folder to how it behaves; `asked` is what was asked of it."""

    address: str
    ways: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def mirror(self, way: str) -> str:
        folder = f"m{len(self.ways)}"
        self.ways[folder] = way
        return f"{self.address}/{folder}/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        _, folder, name = self.path.split("/")
        way = self.state.ways[folder]
        asked = self.headers.get("Range")
        self.state.asked.append((f"{way}/{name}", asked))
        data = CONTENT[name]
        if way == "moved":
            self.send_response(302)
            self.send_header("Location", self.state.mirror("good") + name)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif way in ("404", "500"):
            self.answer(int(way), b"<html>no</html>")
        elif way == "page":
            self.answer(200, b"<html>pay first</html>")
        elif way == "damaged":
            self.answer(200, data[:-1] + b"?")
        elif way == "packed":
            self.answer(200, gzip.compress(data, 1))
        elif way == "endless":
            self.answer(200, data * 50)
        elif way == "bomb":
            self.answer(200, gzip.compress(bytes(30_000_000)))
        elif way == "breaks off":
            self.answer(200, data[: len(data) // 2], length=len(data))
        elif way == "wrong part" and asked:
            self.answer(206, data[10:], {"Content-Range": f"bytes 10-{len(data) - 1}/{len(data)}"})
        elif way == "resumes" and asked:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.answer(416, b"")
            else:
                self.answer(
                    206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                )
        else:  # "good": no parts
            self.answer(200, data)

    def answer(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)
        if length is not None:
            self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    state = Server("")
    handler = type("Bound", (Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        state.address = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield state
        listener.shutdown()
        thread.join()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dataset:
    """A data set of two small files, in place of ptb."""
    files = tuple(
        DataFile(name, (name, name + ".gz"), sha256(data), len(data), len(data))
        for name, data in CONTENT.items()
    )
    dataset = Dataset("ptb", "text", "toy", files, ("ptb",), ("http://mirror.invalid/",))
    monkeypatch.setitem(store.DATASETS, "ptb", dataset)
    monkeypatch.delenv(store.ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return dataset


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("way", ["good", "resumes", "moved", "packed"])
def test_fetches_what_is_served(server: Server, toy: Dataset, tmp_path: Path, way: str) -> None:
    paths = store.fetch("ptb", tmp_path, mirrors=[server.mirror(way)])
    assert paths == [tmp_path / "ptb" / name for name in CONTENT]
    for path in paths:
        data = path.read_bytes()
        assert (gzip.decompress(data) if way == "packed" else data) == CONTENT[path.name]
    assert names(tmp_path / "ptb") == sorted(CONTENT)
    assert [check.state for check in store.verify("ptb", tmp_path)] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("404", "HTTP status 404"),
        ("500", "HTTP status 500"),
        ("page", "served something else: truncated or another text: 22 bytes, expected 200000"),
        ("damaged", "served something else: not the published file: content has sha256"),
        ("endless", "sent more than 265536 bytes"),
        ("bomb", "served something else: the content is longer than 465536 bytes"),
        ("breaks off", "the connection broke off"),
    ],
)
def test_falls_back_to_the_next_mirror(
    server: Server, toy: Dataset, tmp_path: Path, way: str, words: str
) -> None:
    said: list[Progress] = []
    mirrors = [server.mirror(way), server.mirror("good")]
    paths = store.fetch("ptb", tmp_path, mirrors=mirrors, progress=said.append)
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert names(tmp_path / "ptb") == sorted(CONTENT)
    failures = [progress for progress in said if progress.state == "failed"]
    assert failures[0].file == "one.txt"
    assert words in failures[0].detail
    # With nothing but that mirror: one line with the reason and the ways out, and nothing half done.
    other = tmp_path / "other"
    with pytest.raises(DataError) as caught:
        store.fetch("ptb", other, mirrors=mirrors[:1])
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        words,
        "one.txt, two.txt",
        str(other / "ptb"),
        "LSTM_NUMBA_DATA",
        "--data-dir",
        "digits",
        "grammar",
    ):
        assert part in text
    if way == "breaks off":
        assert names(other / "ptb") == ["one.txt.part"]
    else:
        assert not other.exists()


def test_goes_on_where_it_stopped(server: Server, toy: Dataset, tmp_path: Path) -> None:
    data = CONTENT["one.txt"]
    with pytest.raises(DataError):
        store.fetch("ptb", tmp_path, mirrors=[server.mirror("breaks off")])
    half = (tmp_path / "ptb" / "one.txt.part").read_bytes()
    assert 0 < len(half) < len(data)
    assert data.startswith(half)
    server.asked.clear()
    store.fetch("ptb", tmp_path, mirrors=[server.mirror("resumes")])
    assert server.asked[0] == ("resumes/one.txt", f"bytes={len(half)}-")
    assert [(tmp_path / "ptb" / name).read_bytes() for name in CONTENT] == list(CONTENT.values())


@pytest.mark.parametrize(
    "left", [b"something else that lay there", CONTENT["one.txt"], CONTENT["one.txt"] + b"!"]
)
@pytest.mark.parametrize("way", ["resumes", "good", "wrong part"])
def test_a_part_that_does_not_fit_is_no_obstacle(
    server: Server, toy: Dataset, tmp_path: Path, left: bytes, way: str
) -> None:
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "one.txt.part").write_bytes(left)
    paths = store.fetch("ptb", tmp_path, mirrors=[server.mirror(way)])
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert names(tmp_path / "ptb") == sorted(CONTENT)
    # A mirror that sends the whole needs no second request.
    assert len(server.asked) == (2 if way == "good" else 3)


def test_no_network(toy: Dataset, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(
        DataError, match=r"ptb: cannot download one.txt \(127.0.0.1:\d+: connection refused\)"
    ):
        store.fetch("ptb", tmp_path / "new", mirrors=[f"http://127.0.0.1:{port}"])
    assert not (tmp_path / "new").exists()


def test_unknown_host_and_nonsense_address(toy: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        store.fetch("ptb", tmp_path, mirrors=["http://host.invalid/", "nonsense"])
    text = str(caught.value)
    assert re.search(r"host.invalid: (no such host, or no network|the proxy refuses|HTTP status)", text)
    assert "\n" not in text


def test_what_is_there_is_not_fetched_again(server: Server, toy: Dataset, tmp_path: Path) -> None:
    mirror = server.mirror("good")
    store.fetch("ptb", tmp_path, mirrors=[mirror])
    server.asked.clear()
    (tmp_path / "ptb" / "two.txt").write_bytes(b"spoilt")
    said: list[Progress] = []
    store.fetch("ptb", tmp_path, mirrors=[mirror], progress=said.append)
    assert [name for name, _ in server.asked] == ["good/two.txt"]
    assert [(p.file, p.state) for p in said if p.state != "download"] == [
        ("one.txt", "present"),
        ("two.txt", "done"),
    ]
    assert (tmp_path / "ptb" / "two.txt").read_bytes() == CONTENT["two.txt"]


def test_damaged_file_of_another_name_is_the_users(server: Server, toy: Dataset, tmp_path: Path) -> None:
    (tmp_path / "one.txt.gz").write_bytes(gzip.compress(b"mine"))
    with pytest.raises(DataError, match=r"one.txt.gz: .*; remove this file to have it downloaded"):
        store.fetch("ptb", tmp_path, mirrors=[server.mirror("good")])
    assert gzip.decompress((tmp_path / "one.txt.gz").read_bytes()) == b"mine"


def test_new_files_go_beside_old_ones(server: Server, toy: Dataset, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_bytes(CONTENT["two.txt"])
    paths = store.fetch("ptb", tmp_path, mirrors=[server.mirror("good")])
    assert paths == [tmp_path / "one.txt", tmp_path / "two.txt"]
    # A folder that is itself named after the data set gets no second one inside.
    assert store.fetch("ptb", tmp_path / "ptb", mirrors=[server.mirror("good")])[0].parent == tmp_path / "ptb"


def test_progress_counts_up_to_the_size(server: Server, toy: Dataset, tmp_path: Path) -> None:
    said: list[Progress] = []
    store.fetch("ptb", tmp_path, mirrors=[server.mirror("good")], progress=said.append)
    mine = [p for p in said if p.file == "one.txt"]
    received = [p.received for p in mine if p.state == "download"]
    assert len(received) > 1
    assert received == sorted(received)
    assert received[-1] == mine[-1].total == len(CONTENT["one.txt"])
    assert [p.state for p in said].count("done") == 2
    assert all(p.source == server.address.removeprefix("http://") for p in said)


def test_load_downloads_what_is_missing(
    server: Server, toy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors = (server.mirror("damaged"), server.mirror("good"))
    monkeypatch.setitem(store.DATASETS, "ptb", Dataset("ptb", "text", "toy", toy.files, toy.folders, mirrors))
    assert store.content("ptb", "two.txt") == CONTENT["two.txt"]
    assert names(tmp_path / "cache" / "lstm_numba" / "ptb") == ["two.txt"]
    # The named folder comes first, then the environment's, then the cache.
    monkeypatch.setenv(store.ENVIRONMENT, str(tmp_path / "env"))
    assert store.content("ptb", "one.txt") == CONTENT["one.txt"]
    assert names(tmp_path / "env" / "ptb") == ["one.txt"]
    server.asked.clear()
    assert store.content("ptb", "one.txt", tmp_path / "named") == CONTENT["one.txt"]
    assert store.content("ptb", "two.txt", tmp_path / "named") == CONTENT["two.txt"]
    assert server.asked == []


def test_folders_that_cannot_be_written(server: Server, toy: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="is not a folder"):
        store.fetch("ptb", tmp_path / "file", mirrors=[server.mirror("good")])
    (tmp_path / "ptb").write_text("no folder either")
    with pytest.raises(DataError, match="cannot be written") as caught:
        store.fetch("ptb", tmp_path, mirrors=[server.mirror("good")])
    assert "\n" not in str(caught.value)


def test_a_second_process_does_not_write_into_the_same_part(
    server: Server, toy: Dataset, tmp_path: Path
) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "ptb").mkdir()
    with (tmp_path / "ptb" / "one.txt.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b"from another process")
        other.flush()
        store.fetch("ptb", tmp_path, mirrors=[server.mirror("resumes")])
    assert (tmp_path / "ptb" / "one.txt").read_bytes() == CONTENT["one.txt"]
    assert (tmp_path / "ptb" / "one.txt.part").read_bytes() == b"from another process"
    assert names(tmp_path / "ptb") == ["one.txt", "one.txt.part", "two.txt"]


def test_without_locks(server: Server, toy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fcntl", None)
    store.fetch("ptb", tmp_path, mirrors=[server.mirror("breaks off"), server.mirror("good")])
    assert names(tmp_path / "ptb") == sorted(CONTENT)


def test_interrupted_by_the_user(server: Server, toy: Dataset, tmp_path: Path) -> None:
    """Ctrl-C leaves no file that looks whole, and the next run goes on."""

    def stop(progress: Progress) -> None:
        if progress.received > 70_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.fetch("ptb", tmp_path, mirrors=[server.mirror("good")], progress=stop)
    assert names(tmp_path / "ptb") == ["one.txt.part"]
    store.fetch("ptb", tmp_path, mirrors=[server.mirror("resumes")])
    assert server.asked[-2][1] is not None
    assert (tmp_path / "ptb" / "one.txt").read_bytes() == CONTENT["one.txt"]


def test_reasons_name_every_mirror(server: Server, tmp_path: Path) -> None:
    def never(path: Path) -> None:
        raise fault(path, "never good enough")

    urls = [server.mirror("good") + "two.txt", server.mirror("404") + "two.txt"]
    with pytest.raises(MirrorsFailed) as caught:
        download.download("two.txt", urls, tmp_path / "two.txt", never, size=1, limit=10_000)
    host = server.address.removeprefix("http://")
    assert caught.value.reasons == (
        f"{host}: served something else: never good enough",
        f"{host}: HTTP status 404",
    )
    assert names(tmp_path) == []


def test_slow_answers_time_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", (0.2, 0.2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(MirrorsFailed, match="timed out"):
            download.download("a", [url], tmp_path / "a", lambda _: None, size=1, limit=10)


def test_data_sets_without_files() -> None:
    for name in ("digits", "grammar", "text", "images"):
        assert store.fetch(name) == []
        assert store.verify(name) == []
    assert store.dataset("digits").embedded
    assert not store.dataset("mnist").embedded
    with pytest.raises(
        ValueError,
        match="name: expected one of mnist, ptb, text, series, images, digits, grammar, got 'cifar'",
    ):
        store.fetch("cifar")


def test_nothing_of_pooch_or_requests_is_imported_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = (
        "import sys, lstm_numba.data, lstm_numba.data.mnist, lstm_numba.data.ptb, lstm_numba.data.text\n"
        "import lstm_numba.data.digits, lstm_numba.data.grammar, lstm_numba.data.store\n"
        "import lstm_numba.data.image_files\n"
        "print([m for m in ('pooch', 'requests', 'scipy', 'PIL', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
