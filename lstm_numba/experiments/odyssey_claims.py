"""What Greff et al. (2017) found about the parts of an LSTM, tried on the table of the experiment `odyssey`.

The LSTM is worse without a part where the table says so: the interval of the difference is above zero. A
change costs little where it makes the LSTM no worse in this sense and the mean difference is at most
`LITTLE`; without the second condition a change that spoils some trainings only would pass, because their
interval is wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lstm_numba.experiments.outcome import Claim

#: Parts that were found to matter most, and what the table calls the LSTM without them.
CRITICAL = {"the forget gate": "no-forget-gate", "the output activation": "no-output-act"}
#: Mean difference that is little, in the units of the data set's measure: percentage points, or perplexity.
LITTLE = {"digits": 5.0, "grammar": 1.0, "reber": 5.0}
#: The five parts that one takes away.
PARTS = ("no-input-gate", "no-forget-gate", "no-output-gate", "no-input-act", "no-output-act")
_PAPER = (
    "the forget gate and the output activation are the most critical parts of an LSTM; coupling gates or "
    "leaving out peepholes costs little"
)


def claims(rows: Sequence[dict[str, Any]]) -> list[Claim]:
    """The claims that can be tried with the cells of these rows; the last one is that all of them held."""
    found = [_critical(rows, what, cell) for what, cell in CRITICAL.items() if _of(rows, cell)]
    if all(_of(rows, cell) for cell in PARTS):
        found.append(_most_critical(rows))
    changes = (
        ("coupling the input gate to the forget gate", "coupled", 1),
        ("leaving out peepholes", "peephole", -1),
    )
    found += [_cheap(rows, *change) for change in changes if _of(rows, change[1])]
    if found:
        failed = [claim.text for claim in found if not claim.held]
        because = f"of {len(found)} claims above {len(found) - len(failed)} held"
        found.append(Claim(_PAPER, not failed, because))
    return found


def _critical(rows: Sequence[dict[str, Any]], what: str, cell: str) -> Claim:
    own = _of(rows, cell)
    held = all(row["beyond"] == "worse" for row in own)
    return Claim(f"without {what} the LSTM is worse on every data set", held, _differences(own, cell))


def _cheap(rows: Sequence[dict[str, Any]], what: str, cell: str, sign: int) -> Claim:
    """Whether a change costs little; with the sign -1 it is the change from that cell to the LSTM."""
    own, costly = _of(rows, cell), "worse" if sign > 0 else "better"
    held = all(row["beyond"] != costly and sign * row["difference"] <= LITTLE[row["data"]] for row in own)
    return Claim(f"{what} costs little on every data set", held, _differences(own, cell))


def _most_critical(rows: Sequence[dict[str, Any]]) -> Claim:
    """Whether the two stand first when the parts are ordered by what their removal costs."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    places = dict.fromkeys(PARTS, 0.0)
    for name in names:
        costs = {row["cell"]: row["difference"] for row in rows if row["data"] == name}
        for part in PARTS:
            places[part] += (1 + sum(costs[other] > costs[part] for other in PARTS)) / len(names)
    order = sorted(PARTS, key=lambda part: places[part])
    held = max(places[part] for part in CRITICAL.values()) < min(
        places[part] for part in PARTS if part not in CRITICAL.values()
    )
    text = "of five parts these two cost most if taken away, by their mean place among the five"
    return Claim(text, held, ", ".join(f"{part} {places[part]:.3g}" for part in order))


def _of(rows: Sequence[dict[str, Any]], cell: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["cell"] == cell]


def _differences(rows: Sequence[dict[str, Any]], cell: str) -> str:
    """Differences of a cell from the LSTM and their intervals, as text."""
    texts = []
    for row in rows:
        centre, low, high = (row[key] for key in ("difference", "difference_low", "difference_high"))
        texts.append(f"{row['data']} {centre:+.3g} [{low:+.3g}, {high:+.3g}]")
    return f"{cell} less lstm: {', '.join(texts)}"
