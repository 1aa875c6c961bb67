"""`experiment odyssey`: a small run, and names that there are not."""

from __future__ import annotations

from pathlib import Path

from cli_tools import invoke

SMALL = "experiment odyssey --data reber --updates 2 --seeds 2 --rate 0.01 --parameters 300"


def test_a_small_run(tmp_path: Path) -> None:
    answer = invoke(SMALL, "--cell", "coupled", "--out", tmp_path, "--json").json()
    lstm, coupled = answer["rows"]
    assert (lstm["cell"], coupled["cell"]) == ("lstm", "coupled")
    for row, gates in ((lstm, 4), (coupled, 3)):
        counts = [gates * h * (7 + h + 2) + 7 * (h + 1) for h in range(1, 40)]
        assert row["parameters"] == min(counts, key=lambda count: abs(count - 300))
        assert row["units"] == 1 + counts.index(row["parameters"])
        assert row["deviation"] == row["parameters"] / 300 - 1
    assert coupled["difference"] == sum(coupled["tests"]) / 2 - sum(lstm["tests"]) / 2
    assert [Path(file).name for file in answer["files"]] == ["odyssey.png", "odyssey.svg"]
    assert {Path(file) for file in answer["files"]} == set(tmp_path.iterdir())
    shown = invoke(SMALL, "--cell", "coupled", "--out", tmp_path)
    table, claim = shown.out.splitlines()[:3], shown.out.splitlines()[-1]
    assert [line.split()[:4] for line in table[1:]] == [
        ["reber", row["cell"], str(row["units"]), str(row["parameters"])] for row in (lstm, coupled)
    ]
    held = "held" if answer["claims"][-1]["held"] else "did not hold"
    assert claim.startswith(f"the claim {held}: the forget gate and the output activation")


def test_refusals(tmp_path: Path) -> None:
    for words, status, fragment in (
        ("--cell lstn", 2, "Did you mean 'lstm'?"),
        ("--data mnist", 2, "'mnist' is not one of digits, grammar, reber"),
        ("--seeds 1", 2, "is not"),
        ("--rate 0", 2, "is not"),
    ):
        answer = invoke("experiment odyssey --out", tmp_path, *words.split())
        assert answer.status == status, answer.err
        assert fragment in answer.err
        assert answer.out == ""
    assert list(tmp_path.iterdir()) == []
