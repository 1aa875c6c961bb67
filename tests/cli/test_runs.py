"""Trains small networks from the command line, then uses them with every other command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from cli_tools import DIGITS, GRAMMAR, invoke

from lstm_numba.data import digits
from lstm_numba.data.idx import write_idx
from lstm_numba.data.image_files import read_picture


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier."""
    folder = tmp_path_factory.mktemp("cli") / "digits"
    answer = invoke(DIGITS, "--out", folder)
    assert answer.status == 0, answer.err
    return folder


@pytest.fixture(scope="module")
def grammar_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language model."""
    folder = tmp_path_factory.mktemp("cli") / "grammar"
    answer = invoke(GRAMMAR, "--out", folder)
    assert answer.status == 0, answer.err
    return folder


def checkpoint(folder: Path) -> bytes:
    """The bytes of a run's checkpoint."""
    return (folder / "checkpoint.safetensors").read_bytes()


# -- train -------------------------------------------------------------------------------------------


def test_result_on_stdout_messages_on_stderr(tmp_path: Path) -> None:
    answer = invoke(DIGITS, "--out", tmp_path / "run")
    (line,) = answer.out.splitlines()
    assert "accuracy" in line
    assert str(tmp_path / "run") in line
    assert "epoch 1/2" in answer.err
    assert "epoch 2/2" in answer.err
    assert "\r" not in answer.err  # no terminal: plain lines
    assert answer.err.endswith(f"\nnext: lstm-numba evaluate {tmp_path / 'run'}\n")


def test_json_result_and_run_folder(tmp_path: Path) -> None:
    result = invoke(DIGITS, "--out", tmp_path / "run", "--json").json()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "best.safetensors",
    }
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    given = {"dataset": "digits", "hidden": 24, "batch_size": 30, "epochs": 2, "seed": 3, "cell": "lstm"}
    assert {name: config[name] for name in given} == given
    assert config["data"]["count"] == 600
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (final,) = [line for line in lines if line["split"] == "test"]
    assert result["accuracy"] == final["accuracy"]
    assert result["loss"] == final["loss"]
    assert 0 < result["accuracy"] <= 1


def test_learns(digits_run: Path) -> None:
    lines = [json.loads(line) for line in (digits_run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "epoch" and line["split"] == "train"]
    assert losses[-1] < losses[0]
    assert losses[-1] < math.log(10)  # better than knowing nothing


def test_default_folder_is_the_first_free_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "digits-2").mkdir(parents=True)
    small = "train digits --images 40 --hidden 3 --epochs 1 --json"
    assert [invoke(small).json()["run"] for _ in range(2)] == ["runs/digits-1", "runs/digits-3"]


def test_same_seed_same_bits_and_another_seed_not(digits_run: Path, tmp_path: Path) -> None:
    assert invoke(DIGITS, "--out", tmp_path / "same").status == 0
    assert checkpoint(tmp_path / "same") == checkpoint(digits_run)
    assert invoke(DIGITS.replace("--seed 3", "--seed 4"), "--out", tmp_path / "other").status == 0
    assert checkpoint(tmp_path / "other") != checkpoint(digits_run)


def test_preset_gives_way_to_what_the_user_typed(tmp_path: Path) -> None:
    words = "train grammar --preset medium --tokens 3000 --hidden 8 --epochs 1 --bptt 5"
    assert invoke(words, "--out", tmp_path / "run").status == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["hidden"], config["bptt"], config["epochs"]) == (8, 5, 1)
    assert (config["dropout"], config["init_range"], config["layers"], config["lr"]) == (0.5, 0.05, 2, 1.0)
    assert config["schedule_options"] == {"hold": 6, "decay": 1 / 1.2}


@pytest.mark.parametrize(
    "cell", ["rnn", "rnn-relu", "peephole", pytest.param("gru", marks=pytest.mark.smoke), "gru-reset-before"]
)
def test_every_cell_trains_and_evaluates(cell: str, tmp_path: Path) -> None:
    words = f"train digits --cell {cell} --images 200 --hidden 8 --epochs 1 --bidirectional --json"
    result = invoke(words, "--out", tmp_path / "run").json()
    assert invoke("evaluate", tmp_path / "run", "--json").json()["loss"] == pytest.approx(
        result["loss"], rel=1e-6
    )


# -- resume ------------------------------------------------------------------------------------------


def test_resume_of_a_complete_run_changes_nothing(digits_run: Path) -> None:
    before = checkpoint(digits_run), (digits_run / "metrics.jsonl").read_bytes()
    result = invoke("train", "digits", "--resume", digits_run, "--json").json()
    assert (checkpoint(digits_run), (digits_run / "metrics.jsonl").read_bytes()) == before
    assert result["accuracy"] == invoke("evaluate", digits_run, "--json").json()["accuracy"]


@pytest.mark.smoke
@pytest.mark.parametrize("planned", [1, 5])
def test_resume_with_another_number_of_epochs(planned: int, tmp_path: Path) -> None:
    small = "train digits --images 100 --hidden 4 --batch-size 20 --schedule constant"
    assert invoke(small, "--epochs", "1", "--out", tmp_path / "grown").status == 0
    path = tmp_path / "grown" / "config.json"  # of a run that is interrupted after its first epoch
    path.write_text(json.dumps({**json.loads(path.read_text()), "epochs": planned}))
    assert invoke("train", "digits", "--resume", tmp_path / "grown", "--epochs", "2").status == 0
    assert invoke(small, "--epochs", "2", "--out", tmp_path / "whole").status == 0
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("grown", "whole")
    ]
    losses = [[line["loss"] for line in run if line["kind"] == "epoch"] for run in lines]
    assert losses[0] == losses[1]
    less = invoke("train", "digits", "--resume", tmp_path / "grown", "--epochs", "1")
    assert less.status == 2
    assert "--epochs: expected more than the run has done, 2 epochs, got 1" in less.err


# -- evaluate, predict, sample, plot -----------------------------------------------------------------


def test_evaluate_agrees_with_predict(digits_run: Path, tmp_path: Path) -> None:
    test = digits.load("test")
    some = test.take(slice(0, 300))
    write_idx(tmp_path / "some-idx3-ubyte.gz", some.images)
    words = [f"{tmp_path / 'some-idx3-ubyte.gz'}:{index}" for index in range(len(some))]
    predictions = invoke("predict", digits_run, *words, "--json").json()["predictions"]
    probabilities = np.array([entry["probabilities"] for entry in predictions])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert [entry["class"] for entry in predictions] == probabilities.argmax(axis=1).tolist()
    # The same network on all test images: the sample's accuracy is within four standard errors.
    result = invoke("evaluate", digits_run, "--json").json()
    assert {"loss", "accuracy"} <= result.keys()
    hits = np.mean([entry["class"] == label for entry, label in zip(predictions, some.labels, strict=True)])
    error = math.sqrt(result["accuracy"] * (1 - result["accuracy"]) / len(some))
    assert abs(hits - result["accuracy"]) < 4 * error


def test_evaluate_splits(digits_run: Path, grammar_run: Path) -> None:
    train = invoke("evaluate", digits_run, "--split", "train", "--json").json()
    assert train["count"] == 540
    assert invoke("evaluate", digits_run, "--split", "valid", "--json").json()["count"] == 60
    valid = invoke("evaluate", grammar_run, "--split", "valid", "--json").json()
    assert valid["perplexity"] == pytest.approx(math.exp(valid["loss"]))
    assert 1 < valid["lowest_perplexity"] < valid["perplexity"]
    answer = invoke("evaluate", grammar_run, "--split", "nonsense")
    assert answer.status == 1
    assert answer.err.startswith("error: ")
    assert "nonsense" in answer.err


def test_predict_pictures(digits_run: Path, tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pixels = digits.load("test").images[7]
    write_idx(tmp_path / "images", pixels[None])
    picture = image_module.fromarray(pixels)
    picture.save(tmp_path / "plain.png")
    image_module.fromarray(255 - pixels).save(tmp_path / "dark-on-light.png")
    image_module.merge("RGB", [picture] * 3).save(tmp_path / "colour.png")
    picture.resize((112, 112), image_module.Resampling.NEAREST).save(tmp_path / "large.png")
    names = ["images:0", "plain.png", "dark-on-light.png", "colour.png", "large.png"]
    answer = invoke("predict", digits_run, *(tmp_path / name for name in names), "--json")
    first, *others = answer.json()["predictions"]
    for entry in others[:3]:
        assert entry["probabilities"] == first["probabilities"], entry["image"]
    write_idx(tmp_path / "as-mnist", read_picture(tmp_path / "large.png").pixels[None])
    scaled = invoke("predict", digits_run, f"{tmp_path / 'as-mnist'}:0", "--json").json()["predictions"][0]
    assert others[3]["probabilities"] == scaled["probabilities"]
    assert "dark-on-light.png: inverted" in answer.err
    assert "scaled from 112 x 112 to 28 x 28" in answer.err
    by_index = invoke("predict", digits_run, tmp_path / "images", "--index", "0", "--json").json()
    assert by_index["predictions"][0]["probabilities"] == first["probabilities"]
    text = invoke("predict", digits_run, tmp_path / "plain.png").out
    assert text.startswith(f"{tmp_path / 'plain.png'}: {first['class']}")


def test_predict_goes_on_past_what_is_no_image(digits_run: Path, tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pixels = digits.load("test").images[7]
    image_module.fromarray(pixels).save(tmp_path / "good.png")
    image_module.fromarray(np.full((28, 28), 7, np.uint8)).save(tmp_path / "blank.png")
    (tmp_path / "text.txt").write_text("not a picture at all")
    good, text, blank, gone = (tmp_path / name for name in ("good.png", "text.txt", "blank.png", "gone.png"))
    answer = invoke("predict", digits_run, text, good, blank, gone, good)
    assert answer.status == 1
    assert [line.partition(":")[0] for line in answer.out.splitlines()] == [str(good)] * 2
    first, second, third = answer.err.splitlines()
    assert first == f"error: {text}: not an image: none of PNG, JPEG, BMP, PPM, nor an IDX file"
    assert second.startswith(f"error: {blank}: image is blank")
    assert third.startswith(f"error: {gone}: ")
    answer = invoke("predict", digits_run, text, good, "--json")
    assert answer.status == 1
    (line,) = answer.out.splitlines()
    entries = json.loads(line)["predictions"]
    assert entries[1] == {"image": str(text), "error": first.removeprefix("error: ")}
    assert entries[:1] == invoke("predict", digits_run, good, "--json").json()["predictions"]
    alone = invoke("predict", digits_run, text)
    assert (alone.status, alone.out, alone.err) == (1, "", f"{first}\n")


def test_sample(grammar_run: Path) -> None:
    def draw(*words: str) -> str:
        answer = invoke("sample", grammar_run, "--length", "40", *words)
        assert answer.status == 0, answer.err
        return answer.out

    assert draw("--seed", "1") == draw("--seed", "1")
    assert draw("--seed", "1") != draw("--seed", "2")
    assert draw("--seed", "1", "--top-k", "1") == draw("--temperature", "0")  # both take the likeliest
    first = draw("--seed", "1").split()
    result = invoke("sample", grammar_run, "--length", "40", "--seed", "1", "--json").json()
    assert result["text"].split() == first
    prompt = first[0]
    assert draw("--prompt", prompt, "--seed", "1").startswith(prompt)
    answer = invoke("sample", grammar_run, "--prompt", "xyzzy")
    assert answer.status == 1
    assert "xyzzy" in answer.err


def test_plot(digits_run: Path, grammar_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    for run, names in ((digits_run, "confusion-matrix"), (grammar_run, "perplexity")):
        files = invoke("plot", run, "--out", tmp_path / names, "--json").json()["files"]
        assert {Path(file).name for file in files} == {
            f"{name}.{kind}" for name in ("learning-curves", names) for kind in ("png", "svg")
        }
        for file in map(Path, files):
            content = file.read_bytes()
            assert content.startswith(b"\x89PNG") if file.suffix == ".png" else b"<svg" in content
    again = invoke("plot", digits_run, "--out", tmp_path / "again", "--json").json()["files"]
    assert Path(again[1]).read_text().count("<path") > 5
    assert invoke("plot", digits_run, "--out", digits_run / "config.json").status == 1


def test_plot_without_matplotlib_names_the_extra(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answer = invoke("plot", digits_run)
    assert answer.status == 1
    assert answer.err.splitlines() == ["error: plot needs matplotlib: pip install 'lstm_numba[plot]'"]


# -- text of one's own -------------------------------------------------------------------------------


def test_text_by_characters_and_words(tmp_path: Path) -> None:
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "dogs"]
    chance = np.random.default_rng(0)
    text = "\n".join(" ".join(chance.choice(words, 6)) for _ in range(400))
    (tmp_path / "cats.txt").write_text(text)
    for level in ("char", "word"):
        folder = tmp_path / level
        train = f"train text --level {level} --hidden 12 --batch-size 4 --bptt 8 --epochs 1 --json"
        result = invoke(train, tmp_path / "cats.txt", "--out", folder).json()
        assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
        drawn = invoke("sample", folder, "--prompt", "the cat", "--seed", "0", "--length", "30").out
        assert drawn.startswith("the cat")
        if level == "word":
            assert set(drawn.replace("<eos>", "").split()) <= {*words, "<unk>"}
        else:
            assert set(drawn) <= set(text)


def test_info() -> None:
    found = invoke("info", "--json").json()
    assert found["versions"]["numpy"] == np.__version__
    assert found["threads"]["available"] >= 1
    assert found["cpu"]["vector_bits"] in (128, 256, 512)
    assert found["data"]["digits"] == "built in"
    text = invoke("info").out
    for heading in ("versions:", "cpu:", "threads:", "cuda:", "caches:", "data:"):
        assert heading in text
