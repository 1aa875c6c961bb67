"""Every kind of file that is read: a small sound one, what reads it, and how it is changed."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mutations as m
import numpy as np
import pickle_changes
import pytest
import torch_files

import lstm_numba as ln
from lstm_numba.benchmarks import report, results
from lstm_numba.data import idx, image_files, ptb, text
from lstm_numba.data.images import FORMS
from lstm_numba.data.series import SeriesOptions, load_series
from lstm_numba.data.tables import read_table
from lstm_numba.interop.any_format import fit_model, open_source
from lstm_numba.interop.files.opening import read_contents
from lstm_numba.interop.json_export import save_json
from lstm_numba.interop.loading import load
from lstm_numba.interop.onnx.nodes import list_nodes
from lstm_numba.training import checkpoint
from lstm_numba.training.classification import ImageTask
from lstm_numba.training.config import make_config
from lstm_numba.training.run import Run
from lstm_numba.training.run_sets import SEEDS, Member, RunSet
from lstm_numba.training.tasks import build_task, open_task
from lstm_numba.training.trainer import Trainer


class Format(NamedTuple):
    """A kind of file."""

    make: Callable[[Path], Path]  # a sound file in a folder
    read: Callable[[Path], object]
    changes: tuple[m.Mutator, ...]


def _layer(**more: Any) -> Any:
    return ln.LSTM(2, 3, 2, bidirectional=True, seed=0, **more)


def _weights(name: str, save: Callable[[Any, Path], None] = ln.save_weights) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        save(_layer(), folder / name)
        return folder / name

    return make


def _network(path: Path) -> object:
    """All recurrent layers of a file of any format.

    Of a cell with other activations the plain one: what is generated of its equations, which are ours, would
    look as if something in the file were executed.
    """
    contents = read_contents(path)
    return [
        load(contents, str(path), prefix=prefix, cell=cell.partition(",")[0]).network
        for prefix, cell in contents.cells.items()
    ]


def _keras(name: str) -> Callable[[Path], Path]:
    """A file of Keras, of two layers in both directions that are one stack here, and a linear one."""

    def make(folder: Path) -> Path:
        pytest.importorskip("h5py", reason="h5py is not installed")
        import keras_files as k

        inner = k.entry("GRU", "gru", return_sequences=True, reset_after=True, activation="tanh")
        both = [k.entry("Bidirectional", n, layer=inner, merge_mode="concat") for n in ("a", "b")]
        config = k.chain(k.entry("Masking", "mask", mask_value=-1.0), *both, k.entry("Dense", "head"))
        arrays: dict[str, Any] = {"layers/dense/vars/0": np.zeros((4, 2), np.float32)}
        old: dict[str, Any] = {"head": {"head/kernel:0": np.zeros((4, 2), np.float32)}}
        for layer, place, inputs in (("a", "bidirectional", 3), ("b", "bidirectional_1", 4)):
            old[layer] = {}
            for direction in ("forward", "backward"):
                weights = k.weights(3, inputs, 2, 2)
                arrays |= k.numbered(f"layers/{place}/{direction}_layer/cell", weights)
                old[layer] |= k.named(f"{layer}/{direction}_gru/gru_cell", weights)
        content = {
            "m.keras": lambda: k.archive(config, arrays),
            "m.h5": lambda: k.keras_2(old, config),
            "m.hdf5": lambda: k.keras_2(old),
        }[name]()
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _json(style: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        model = ln.SequenceRegressor(1, 2, 1, cell="gru", layers=2, seed=0)
        save_json(model, folder / "m.json", style)
        return folder / "m.json"

    return make


def _file(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _picture(kind: str, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
        pixels = np.full((40, 32, 3), 250, np.uint8)
        pixels[8:30, 12:18] = 20
        exif = image.Exif()
        exif[0x0112] = 6
        picture = image.fromarray(pixels)
        if kind == "palette.png":
            picture = picture.quantize(4)
            options["transparency"] = b"\0\xff"
        memory = io.BytesIO()
        picture.save(memory, {"jpg": "JPEG"}.get(kind, kind.rpartition(".")[2]), exif=exif, **options)
        (folder / f"a.{kind}").write_bytes(memory.getvalue())
        return folder / f"a.{kind}"

    return make


def _run(name: str) -> Callable[[Path], Path]:
    """A run of a language model that has taken no step; the file of it that is changed."""

    def make(folder: Path) -> Path:
        config = make_config("grammar", {"threads": 1, "hidden": 3, "embedding": 2}, data={"tokens": 2000})
        run = Run.create(folder / "run", config)
        task = build_task(config)
        run.keep_vocabulary("word", task.corpus.vocabulary)  # type: ignore[attr-defined]
        Trainer(task, run).save()
        line = {"kind": "step", "epoch": 1, "split": "train", "loss": 2.5, "lr": 0.1}
        run.metrics_path.write_text("".join(json.dumps({**line, "step": n}) + "\n" for n in range(4)))
        return run.folder / name

    return make


def _series(path: Path) -> object:
    return load_series([path], SeriesOptions(target=("a",), time="t"))


def _table(name: str) -> Callable[[Path], Path]:
    """A table of NumPy's."""

    def make(folder: Path) -> Path:
        columns = {"t": np.arange(40.0), "a": np.sin(np.arange(40.0))}
        if name.endswith("z"):
            np.savez(folder / name, **columns)
        else:
            np.save(folder / name, np.stack([*columns.values()], axis=1))
        return folder / name

    return make


def _series_run(name: str) -> Callable[[Path], Path]:
    """A run of a series that has taken no step; the file of it that is changed."""

    def make(folder: Path) -> Path:
        (folder / "a.csv").write_bytes(_TABLE)
        data = {"files": [str(folder / "a.csv")], "target": ["a"], "window": 3, "horizon": 2}
        config = make_config("series", {"threads": 1, "hidden": 3}, data=data)
        run = Run.create(folder / "run", config)
        task = build_task(config)
        task.keep_with(run)
        Trainer(task, run).save()
        return run.folder / name

    return make


def _picture_run(folder: Path) -> Path:
    """A run of own pictures that has taken no step; what it keeps of them."""
    config = make_config("images", {"threads": 1, "hidden": 3, "cell": "rnn"})
    run = Run.create(folder / "run", config)
    form = FORMS["digits"]._asdict()
    Trainer(ImageTask(config, form=form), run, fingerprint="").save()
    run.keep_form(form)
    return run.form_path


def _open_run(path: Path) -> object:
    return open_task(path.parent, load_data=False)


def _sizes(folder: Path) -> Path:
    """A model that computes with its input's sizes."""
    import onnx_models as models

    path = folder / "m.onnx"
    ln.save_onnx(ln.LSTM(3, 5, 2, bidirectional=True, seed=0), path)
    models.change(path, lambda graph: models.dynamic(graph, tile=True))
    return path


def _nodes(folder: Path) -> Path:
    """A bigger model, with a node in each branch of an `If`."""
    import onnx_graphs

    other = ln.GRU(3, 5, bidirectional=True, seed=1)
    return onnx_graphs.branches(ln.LSTM(3, 5, bidirectional=True, seed=0), other, folder)


def _read_nodes(path: Path) -> object:
    return list_nodes(path), ln.load_onnx(path, node=1)


def _whole_model(**more: Any) -> Any:
    return ln.SequenceClassifier(2, 3, 2, layers=2, bidirectional=True, **more)


def _saved_model(folder: Path) -> Path:
    """A whole model."""
    ln.save_onnx(_whole_model(seed=0), folder / "m.onnx")
    return folder / "m.onnx"


def _fit(path: Path) -> object:
    return fit_model(open_source(path), _whole_model())


def _set(folder: Path) -> Path:
    """Runs that have not begun."""
    members = [
        Member(f"seed-{k}", str(k), make_config("text", {"seed": k}, data={"file": "a"})) for k in (0, 1)
    ]
    RunSet(folder, SEEDS, tuple(members)).write()
    return folder / "set.json"


def _compare(path: Path) -> object:
    document = results.load(path)
    pairs = results.compare(document, document)
    return report.comparison(pairs, (str(path), str(path))) if pairs else None


def _bench() -> bytes:
    size = {"name": "mine", "batch": 1, "steps": 2, "inputs": 3, "hidden": 4}
    row = {"cell": "gru", "shape": size, "task": "training", "dtype": "float32", "threads": 2}
    entry = {"median": 0.1, "quartiles": [0.09, 0.11]}
    return json.dumps(
        {"format": results.FORMAT, "rows": [{**row, "contestants": {"cpu-serial": entry}}]}
    ).encode()


def _torch(name: str, pack: Callable[[Any], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(pack(_layer().state_dict()))
        return folder / name

    return make


_TABLE = (
    "t,a,b\n" + "".join(f"2024-01-01 {k // 60:02}:{k % 60:02},{k % 7},{k * 0.5}\n" for k in range(80))
).encode()
_IDX = struct.pack(">iiii", 0x0803, 2, 28, 28) + bytes(range(196)) * 8
_TEXT = "so it goes, and so on: grüße 你好\n".encode() * 40

FORMATS: dict[str, Format] = {
    "idx": Format(_file("a", _IDX), idx.read_idx, (m.change_bytes,)),
    "idx.gz": Format(
        _file("a.gz", gzip.compress(_IDX)), image_files.read_images, (m.change_bytes, m.change_gzip)
    ),
    "text": Format(_file("a.txt", _TEXT), text.load, (m.change_bytes,)),
    "words.gz": Format(
        _file("a.txt", gzip.compress(_TEXT)),
        lambda path: ptb.read_splits(path, path, path),
        (m.change_bytes, m.change_gzip),
    ),
    "png": Format(_picture("png"), image_files.read_picture, (m.change_bytes, m.change_png)),
    "palette.png": Format(_picture("palette.png"), image_files.read_picture, (m.change_png,)),
    "jpg": Format(_picture("jpg"), image_files.read_picture, (m.change_bytes,)),
    "bmp": Format(_picture("bmp"), image_files.read_picture, (m.change_bytes,)),
    "ppm": Format(_picture("ppm"), image_files.read_images, (m.change_bytes,)),
    "csv": Format(_file("a.csv", _TABLE), _series, (m.change_bytes,)),
    "csv.gz": Format(_file("a.csv.gz", gzip.compress(_TABLE)), _series, (m.change_bytes, m.change_gzip)),
    "table.npy": Format(_table("a.npy"), read_table, (m.change_bytes,)),
    "table.npz": Format(_table("a.npz"), _series, (m.change_bytes, m.change_archive)),
    "series.json": Format(_series_run("series.json"), _open_run, (m.change_bytes, m.change_json)),
    "npz": Format(_weights("w.npz"), ln.load_weights, (m.change_bytes, m.change_archive)),
    "keras.npz": Format(_weights("k.npz", ln.save_keras), ln.load_keras, (m.change_archive,)),
    "safetensors": Format(_weights("w.safetensors"), ln.load_weights, (m.change_bytes, m.change_safetensors)),
    "torch.pt": Format(
        _torch("w.pt", torch_files.saved),
        ln.load_weights,
        (m.change_bytes, m.change_archive, pickle_changes.change_torch_archive),
    ),
    "old.pth": Format(
        _torch("w.pth", torch_files.old_format),
        ln.load_weights,
        (m.change_bytes, pickle_changes.change_pickles),
    ),
    "scripted.jit": Format(
        _torch("w.jit", torch_files.scripted),
        ln.load_weights,
        (m.change_archive, pickle_changes.change_torch_archive),
    ),
    "arrays.pkl": Format(
        _torch("w.pkl", torch_files.numpy_pickle),
        ln.load_weights,
        (m.change_bytes, pickle_changes.change_pickle),
    ),
    "onnx": Format(_weights("m.onnx", ln.save_onnx), ln.load_onnx, (m.change_bytes, m.change_onnx)),
    "model.onnx": Format(_saved_model, _fit, (m.change_bytes, m.change_onnx)),
    "sizes.onnx": Format(_sizes, ln.load_onnx, (m.change_onnx,)),
    "node.onnx": Format(_nodes, _read_nodes, (m.change_bytes, m.change_onnx)),
    "keras": Format(_keras("m.keras"), _network, (m.change_bytes, m.change_keras)),
    "keras.h5": Format(_keras("m.h5"), _network, (m.change_bytes, m.change_hdf5)),
    "keras.hdf5": Format(_keras("m.hdf5"), _network, (m.change_bytes, m.change_hdf5)),
    "guitarml.json": Format(_json("guitarml"), _network, (m.change_bytes, m.change_json)),
    "rtneural.json": Format(_json("rtneural"), _network, (m.change_bytes, m.change_json)),
    "bench.json": Format(_file("b.json", _bench()), _compare, (m.change_bytes, m.change_json)),
    "set.json": Format(_set, lambda path: RunSet.open(path.parent), (m.change_bytes, m.change_json)),
    "config.json": Format(_run("config.json"), _open_run, (m.change_bytes, m.change_json)),
    "vocabulary.json": Format(_run("vocabulary.json"), _open_run, (m.change_bytes, m.change_json)),
    "classes.json": Format(_picture_run, _open_run, (m.change_bytes, m.change_json)),
    "metrics.jsonl": Format(
        _run("metrics.jsonl"),
        lambda path: Run.open(path.parent).metrics(),
        (m.change_bytes, m.change_json_lines),
    ),
    "checkpoint": Format(
        _run("checkpoint.safetensors"),
        _open_run,
        (m.change_bytes, m.change_safetensors, m.change_checkpoint),
    ),
    "checkpoint alone": Format(
        _run("checkpoint.safetensors"), checkpoint.load, (m.change_safetensors, m.change_checkpoint)
    ),
}
