"""The page as text: its parts, its use without sight, and that nothing a user wrote is markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from inspections import HOSTILE, KINDS, make_inspection
from matplotlib.figure import Figure

from lstm_numba.traces.inspection import Inspection
from lstm_numba.traces.page import page
from lstm_numba.traces.page_data import page_data
from lstm_numba.traces.page_script import SCRIPT
from lstm_numba.traces.page_style import STYLE
from lstm_numba.traces.pictures import Draw, pictures
from lstm_numba.traces.statistics import Shares

#: Elements without an end.
VOID = {"meta", "input", "img", "source", "link", "br"}


class Reader(HTMLParser):
    """Elements with their attributes and texts; whatever is opened must be closed."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag}: an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module", params=KINDS)
def content(request: pytest.FixtureRequest) -> str:
    it = make_inspection(request.param)
    return page(it, blank(it))


def blank(it: Inspection) -> dict[str, Draw]:
    """Figures with nothing in them, which are drawn at once."""
    return dict.fromkeys(pictures(it), lambda: Figure(figsize=(1, 1)))


@pytest.fixture(scope="module")
def read(content: str) -> Reader:
    return Reader(content)


def test_whole_page(content: str, read: Reader) -> None:
    assert content.startswith("<!DOCTYPE html>")
    assert read.all("html") == [{"lang": "en"}]
    for tag in ("title", "main", "header", "nav", "h1"):
        assert len(read.all(tag)) == 1, tag
    assert len(content) < 2_000_000


def test_nothing_comes_from_elsewhere(content: str, read: Reader) -> None:
    markup = re.sub('"data:image/[^"]*"', "", content.split('<script type="application/json"')[0])
    assert not re.search(r"(https?:)?//[a-z]", markup)
    assert not re.search(r"https?:|\bfetch\b|XMLHttp|import\b|innerHTML|\beval\b", SCRIPT + STYLE)
    assert "url(" not in STYLE
    for tag, attributes in read.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), (tag, name, value[:80])


def test_policy_lets_this_script_run_and_no_other(read: Reader) -> None:
    (policy,) = [a["content"] for a in read.all("meta") if "http-equiv" in a]
    assert policy is not None
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    for kind, code in (
        ("script", "".join(read.texts["script"][1:])),
        ("style", "".join(read.texts["style"])),
    ):
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_names_are_unique_and_lead_somewhere(read: Reader) -> None:
    names = [a["id"] for _, a in read.elements if "id" in a]
    assert len(names) == len(set(names))
    for _, attributes in read.elements:
        for key in ("aria-labelledby", "for"):
            assert attributes.get(key, names[0]) in names
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in names


def test_script_finds_all_that_it_asks_for(content: str, read: Reader) -> None:
    names = {a["id"] for _, a in read.elements if "id" in a}
    asked = set(re.findall(r'find\("([\w-]+)"\)', SCRIPT))
    assert asked
    # What a page of some kinds lacks; the script looks before it uses them.
    assert asked - names <= {"input", "axis", "answers"}
    kind = json.loads(read.texts["script"][0])["answers"]["kind"]
    assert ("answers" in names) == (kind != "forecast")


def test_usable_without_sight(read: Reader) -> None:
    for image in read.all("img"):
        assert len(image["alt"] or "") > 20
    for canvas in read.all("canvas"):
        assert canvas.get("aria-label") or canvas.get("aria-hidden") == "true"
    labelled = {a["for"] for a in read.all("label")}
    for control in (*read.all("input"), *read.all("select")):
        assert control["id"] in labelled
    assert all(a.get("scope") in ("row", "col") for a in read.all("th"))
    assert len(read.all("caption")) == len(read.all("table"))
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert max(np.diff(levels)) <= 1
    # Each picture has a table with its numbers.
    assert len(read.all("details")) >= len(read.all("img"))


def test_what_a_user_wrote_is_text(read: Reader) -> None:
    assert len(read.all("script")) == 2
    for tag, attributes in read.elements:
        assert tag not in ("b", "i")
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert "x" not in (attributes.get("src"),)
    shown = [text for texts in read.texts.values() for text in texts]
    for hostile in HOSTILE[:2]:
        assert any(hostile in text for text in shown), hostile


def test_json_holds_no_markup_and_reads_back() -> None:
    it = make_inspection("tokens")
    text = page_data(it)
    assert not set(text) & set("<>&\u2028\u2029")
    data = json.loads(text)
    assert tuple(data["steps"]) == it.steps
    assert data["answers"]["bits"][0] is None
    for layer, view in zip(data["layers"], it.views, strict=True):
        for array, (name, values) in zip(layer["arrays"], view.values.items(), strict=True):
            assert array["label"].endswith(f" {name}")
            levels = np.frombuffer(base64.b64decode(array["values"]), np.uint8).reshape(8, -1)
            back = array["low"] + (array["high"] - array["low"]) * levels / 255
            np.testing.assert_allclose(
                back, values[:, array["units"]], atol=(array["high"] - array["low"]) / 500
            )
            assert array["order"] == view.order.tolist()


def test_large_networks_make_no_large_pages() -> None:
    it = make_inspection("tokens", steps=100, units=1500, layers=3)
    assert len(page_data(it)) < 1_000_000
    kept = json.loads(page_data(it))["layers"][0]["arrays"][0]
    assert kept["order"] == it.views[0].order[: len(kept["order"])].tolist()
    assert kept["units"] == sorted(kept["order"])
    content = page(it, blank(it))
    assert len(content) < 1_600_000  # pictures take less than the rest
    assert "the first 400 of 1,500 in this order (--json gives all)" in content
    assert f"The {len(kept['units'])} units of each layer that remember longest are shown." in content


def test_a_cell_without_gates_says_so() -> None:
    it = make_inspection("classes")
    views = [v._replace(shares=dict[str, Shares](), kept=None, constants=None) for v in it.views]
    it = make_inspection("classes", views=views)
    drawn = pictures(it)
    assert set(drawn) == {"values-l0", "values-l1_reverse", "probabilities"}
    assert "No gate of this cell alone decides" in page(it, blank(it))


def test_tables_of_long_sequences_leave_steps_out() -> None:
    it = make_inspection("classes", steps=6000, units=2)
    content = page(it, blank(it))
    (table,) = re.findall("<caption>One step in 3 .*?</table>", content)  # 9 columns, 54,000 numbers
    numbers = [int(n) for n in re.findall(r'<th scope="row">(\d+)</th>', table)]
    assert numbers == [*range(1, 6000, 3), 6000]
