"""The networks of others: each page agrees with the original, and would notice if it did not.

Packages come from the package index, into the folder that LSTM_NUMBA_NETWORKS names or a temporary one.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import timing
from lstm_numba.errors import UserError
from lstm_numba.examples.networks import (
    __main__,
    comparison,
    ddddocr,
    g2p_en,
    g2pm,
    package,
    resemblyzer,
    silero_vad,
    sleepecg,
)
from lstm_numba.examples.networks.comparison import Comparison, difference
from lstm_numba.examples.networks.package import Package, Unreachable

pytestmark = pytest.mark.filterwarnings("ignore::lstm_numba.errors.WeightsWarning")

#: Page -> packages that it needs, and what makes it quick: arguments of `compare`.
PAGES: dict[ModuleType, tuple[tuple[str, ...], dict[str, Any]]] = {
    silero_vad: (("onnx", "onnxruntime"), {"seconds": 4.0}),
    g2p_en: ((), {"count": 100}),
    resemblyzer: (("torch",), {"sizes": (1, 3)}),
    sleepecg: (("h5py",), {"steps": 40}),
    g2pm: ((), {"count": 30}),
    ddddocr: (("onnx", "onnxruntime"), {"widths": (80, 160)}),
}
EACH = [pytest.param(page, id=page.__name__.rsplit(".", 1)[1]) for page in PAGES]
CONTENT = b"0.25 0.75"


@pytest.fixture(scope="module")
def obtain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ModuleType], Path]:
    """Finds a page's network, installed or in the package index; skips where it or a peer cannot be had."""
    given = os.environ.get("LSTM_NUMBA_NETWORKS")
    folder = Path(given) if given else tmp_path_factory.mktemp("networks")

    def find(page: ModuleType) -> Path:
        for peer in PAGES[page][0]:
            pytest.importorskip(peer)
        try:
            return package.find_installed(page.PACKAGE)
        except UserError:
            pass
        try:
            return package.download(page.PACKAGE, folder)
        except Unreachable as error:
            pytest.skip(f"no package from the index: {error}")

    return find


# The pages


@pytest.mark.parametrize("page", EACH)
def test_the_page_agrees_with_the_original(page: ModuleType, obtain: Callable[[ModuleType], Path]) -> None:
    found = page.compare(obtain(page), **PAGES[page][1])
    assert found
    for each in found:
        assert each.difference <= each.tolerance <= 3e-5, each
        each.ours()
        each.theirs()


@pytest.mark.parametrize("page", EACH)
def test_a_wrong_weight_shows(
    page: ModuleType, obtain: Callable[[ModuleType], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = obtain(page)

    def spoilt(load: Callable[..., Any]) -> Callable[..., Any]:
        def load_and_spoil(*arguments: Any, **options: Any) -> Any:
            loaded = load(*arguments, **options)
            getattr(loaded, "rnn", loaded).params["weight_hh_l0"][1, 2] += 0.1
            return loaded

        return load_and_spoil

    for name in ("load_weights", "load_onnx"):
        monkeypatch.setattr(ln, name, spoilt(getattr(ln, name)))
    found = page.compare(path, **PAGES[page][1])
    # All of g2pM on one sentence is readings alone, which a small change may leave as they are.
    assert not any(each.agrees for each in found if each.tolerance > 0)


def test_silence_is_no_speech(obtain: Callable[[ModuleType], Path]) -> None:
    path = obtain(silero_vad)
    chunks = silero_vad.draw_sound(4.0)
    detect = silero_vad.detector(path, 1)
    scores, silence = detect(chunks), detect(np.zeros_like(chunks))
    assert scores.max() > 0.5
    assert silence[1:].max() < 0.2
    np.testing.assert_array_equal(detect(chunks), scores)  # every call begins anew


def test_words_whose_sounds_are_clear(obtain: Callable[[ModuleType], Path]) -> None:
    path = obtain(g2p_en)
    names = g2p_en.original(path).idx2p
    sounds, scores = g2p_en.Speller(path).predict("bat")
    assert [names[n] for n in sounds] == ["B", "AE1", "T"]
    assert len(scores) == len(sounds) + 1  # the last one chose the end


def test_embeddings_have_length_one_and_tell_voices_apart(obtain: Callable[[ModuleType], Path]) -> None:
    embed = resemblyzer.load_encoder(obtain(resemblyzer))
    frames = resemblyzer.draw_frames(2)
    first, second = embed(frames)
    np.testing.assert_allclose([first @ first, second @ second], 1, atol=1e-5)
    np.testing.assert_allclose(embed(frames[:1])[0], first, atol=1e-5)
    assert first @ second < 0.9999


def test_unknown_steps_of_a_night(obtain: Callable[[ModuleType], Path], tmp_path: Path) -> None:
    """All features unknown: what the last layer makes of zeros, and the state stays as it was."""
    with zipfile.ZipFile(obtain(sleepecg)) as archive:
        path = Path(archive.extract(sleepecg.MODEL, tmp_path))
    stage, night = sleepecg.load_stager(path), sleepecg.draw_night(30)
    night[10:13] = sleepecg.UNKNOWN
    known = np.any(night != sleepecg.UNKNOWN, axis=1)
    assert 0 < np.count_nonzero(~known) < 30
    found = stage(night)
    np.testing.assert_allclose(found[known], stage(night[known]), atol=1e-6)
    np.testing.assert_array_equal(found[~known], np.broadcast_to(found[11], found[~known].shape))
    assert_close(found, sleepecg.ByEquations(path, np.float64)(night), "forward")


# Packages


def _toy(checksum: str = hashlib.sha256(CONTENT).hexdigest(), version: str = "1.0") -> Package:
    return Package("toy-network", version, {"toy_network/net/weights.txt": checksum})


def _fill(archive: zipfile.ZipFile) -> None:
    archive.writestr("toy_network/__init__.py", "raise RuntimeError('imported')\n")
    archive.writestr("toy_network/net/weights.txt", CONTENT)
    home = "toy_network-1.0.dist-info"
    archive.writestr(
        f"{home}/METADATA", "Metadata-Version: 2.1\nName: toy-network\nVersion: 1.0\nRequires-Dist: x\n"
    )
    archive.writestr(
        f"{home}/WHEEL", "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    archive.writestr(f"{home}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a wheel, which pip takes for the package index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "toy_network-1.0-py3-none-any.whl", "w") as archive:
        _fill(archive)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_an_installed_package_is_found_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Path
) -> None:
    with pytest.raises(UserError, match=r"^toy-network 1.0: not installed; give --download"):
        package.find_installed(_toy())
    with zipfile.ZipFile(next(wheels.iterdir())) as archive:
        archive.extractall(tmp_path / "installed")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    assert package.find_installed(_toy()).read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"^toy-network 1.1: version 1.0 is installed"):
        package.find_installed(_toy(version="1.1"))
    with pytest.raises(UserError, match=r"weights.txt: SHA-256 [0-9a-f]{64}, expected 00"):
        package.find_installed(_toy("00"))
    (tmp_path / "installed/toy_network/net/weights.txt").unlink()
    with pytest.raises(UserError, match=r"weights.txt: No such file"):
        package.find_installed(_toy())


def test_a_download_keeps_one_file_and_happens_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Path
) -> None:
    path = package.download(_toy(), tmp_path / "kept")
    assert path.read_bytes() == CONTENT
    assert [p for p in (tmp_path / "kept").rglob("*") if p.is_file()] == [path]

    def no_pip(*arguments: Any, **options: Any) -> None:
        raise AssertionError("downloaded again")

    monkeypatch.setattr(subprocess, "run", no_pip)
    assert package.download(_toy(), tmp_path / "kept") == path
    path.write_bytes(b"0.25 0.76")
    with pytest.raises(UserError, match="SHA-256"):
        package.download(_toy(), tmp_path / "kept")


def test_packages_that_cannot_be_had(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(Unreachable, match=r"^toy-network 1.1: pip could not download it: ERROR: No matching"):
        package.download(_toy(version="1.1"), tmp_path / "a")
    other = Package("toy-network", "1.0", {"toy_network/other.txt": ""})
    with pytest.raises(UserError, match=r"no item named 'toy_network/other\.txt'"):
        package.download(other, tmp_path / "b")


# The comparison


def _page(apart: float = 0.0) -> comparison.Page:
    def compare(path: Path, threads: int) -> list[Comparison]:
        content = path.read_bytes()
        return [
            Comparison("a sum", "sum", apart, 1e-6, lambda: sum(content), lambda: sum(content), 2, "pair")
        ]

    return compare


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "REPEAT_SECONDS", 1e-4)
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0.0)


def test_a_page_prints_and_writes_what_it_found(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"ours": timing.Times([0.2, 0.1, 0.4], 1), "theirs": timing.Times([0.4, 0.3, 0.4], 1)}
    monkeypatch.setattr(comparison, "measure", lambda calls, repeats: times)
    target = tmp_path / "row.json"
    comparison.run(_toy(), _page(2e-7), ["--download", str(tmp_path), "--json", str(target)])
    (row,) = json.loads(target.read_text())
    assert (row["ours"], row["theirs"], row["ratio"], row["unit"]) == (0.1, 0.2, 2.0, "pair")
    assert row["ratio_quartiles"] == [1.5, 2.5]
    printed = capsys.readouterr().out
    assert "largest difference 2.0e-07" in printed
    assert "a pair: 100 ms, sum 200 ms; ratio 2.00 (1.50 to 2.50), threads: 1" in printed
    lines = __main__.table([{**row, "page": "toy"}, {"page": "b", "threads": 2, "failed": "no luck"}])
    assert (
        lines[2]
        == "| toy-network 1.0 | a sum | 1 | 2e-07 | 100 ms a pair | 200 ms, sum | 2.00 (1.50 to 2.50) |"
    )
    assert lines[3].startswith("| b | no luck | 2 |")
    assert {line.count("|") for line in lines} == {8}


@pytest.mark.parametrize("apart", [2e-6, float("nan"), float("inf")])
def test_nothing_is_timed_where_numbers_differ(
    apart: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "measure", lambda *_: pytest.fail("timed"))
    path = tmp_path / "weights.txt"
    path.write_bytes(CONTENT)
    with pytest.raises(SystemExit, match=r"^error: sum gives other numbers: 1.0e-06 was expected at most"):
        comparison.run(_toy(), _page(apart), ["--file", str(path)])


def test_a_page_times_in_earnest(tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    path, target = tmp_path / "weights.txt", tmp_path / "row.json"
    path.write_bytes(CONTENT)
    comparison.run(_toy(), _page(), ["--file", str(path), "--repeats", "4", "--json", str(target)])
    (row,) = json.loads(target.read_text())
    assert len(row["ours_seconds"]) == len(row["theirs_seconds"]) == 4
    assert min(row["ours_seconds"] + row["theirs_seconds"]) > 0
    with pytest.raises(SystemExit, match=r"^error: --file: .*: no such file"):
        comparison.run(_toy(), _page(), ["--file", str(tmp_path / "none")])


def test_differences() -> None:
    assert difference([1.0, -4.0], [1.0, -4.5]) == 0.5 / 4.5
    assert np.isnan(difference([1.0, np.nan], [1.0, 2.0]))
    with pytest.raises(ValueError, match=r"^found: expected shape \(2,\), got \(1,\)"):
        difference([1.0], [1.0, 2.0])


def test_a_missing_peer_is_named() -> None:
    with pytest.raises(UserError, match=r"^the comparison needs no_such_peer, which is not installed"):
        comparison.peer("no_such_peer")


def test_a_page_that_fails_has_a_row(tmp_path: Path, wheels: Path) -> None:
    (row,) = __main__.run_page("g2p_en", 1, 2, tmp_path)
    assert row["page"] == "g2p_en"
    assert row["failed"].startswith("error: g2p-en 2.1.0: pip could not download it")


# Parts of ONNX models


def test_parts_of_a_model(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from lstm_numba.examples.networks.onnx_parts import Model, session

    text = """<ir_version: 8, opset_import: ["" : 15]>
    toy (float[N] x, bool flag) => (float[N] y) <float[1] two = {2}, float[1] three = {3}> {
        doubled = Mul (x, two)
        low, high = Split (doubled)
        chosen = If (flag) <
            then_branch = then () => (float[N] sum) { more = Add (doubled, three)  sum = Add (more, two) },
            else_branch = other () => (float[N] same) { same = Identity (x) }>
        y = Neg (chosen)
    }"""
    path = tmp_path / "toy.onnx"
    onnx.save(onnx.parser.parse_model(text), str(path))
    model, x = Model(path), np.array([1, 5], np.float32)
    assert model.recurrent == []
    np.testing.assert_array_equal(model.constant("three"), [3])

    def outputs(content: bytes, **given: Any) -> list[list[float]]:
        return [array.tolist() for array in session(content, 1).run(None, given)]

    whole = model.with_outputs(["doubled", "chosen"])
    assert outputs(whole, x=x, flag=np.array(True)) == [[-7, -15], [2, 10], [7, 15]]
    assert outputs(whole, x=x, flag=np.array(False)) == [[-1, -5], [2, 10], [1, 5]]
    assert outputs(model.part(["doubled"]), x=x) == [[2, 10]]
    assert outputs(model.part(["y"], ["chosen"]), chosen=x) == [[-1, -5]]
    assert outputs(model.part(["low", "high"], ["doubled"]), doubled=x) == [[1], [5]]
    # From inside a branch, and with a branch that reads what is outside.
    assert outputs(model.part(["sum"], ["doubled"]), doubled=x) == [[6, 10]]
    assert outputs(model.part(["y"], ["doubled"]), x=x, doubled=x, flag=np.array(True)) == [[-6, -10]]
    with pytest.raises(UserError, match=r"^ONNX Runtime refuses the model"):
        session(b"no model", 1)
