"""The page in Chromium, where that and Selenium are installed: it asks for nothing, the keyboard moves it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inspections import HOSTILE, KINDS, make_inspection

from lstm_numba.traces.inspection import TokenAnswers
from lstm_numba.traces.page import page
from lstm_numba.traces.pictures import pictures

webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (_CHROMIUM and _DRIVER), reason="Chromium or its driver is not installed")

#: Gives the address of the picture that is shown.
SHOWN = "return document.querySelector('picture img').currentSrc"
#: Gives the texts of a table's cells.
ROWS = "return [...document.querySelectorAll('#{} tr')].map(r => [...r.children].map(c => c.textContent))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for word in (
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            f"user-data-dir={profile}",
            "window-size=1000,1400",
        ):
            options.add_argument(f"--{word}")
        options.add_argument("about:blank")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(_DRIVER))
        try:
            yield driver
        finally:
            driver.quit()


def opened(browser: Any, folder: Path, kind: str) -> str:
    """Open the page of an inspection; it must ask for nothing but itself, and have nothing to complain of."""
    it = make_inspection(kind)
    path = folder / "index.html"
    path.write_text(page(it, pictures(it)), encoding="utf-8")
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)
    address = path.as_uri()
    browser.get(address)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("data:", "chrome"))} <= {address, "about:blank"}
    assert address in asked
    assert browser.get_log("browser") == []
    return address


def text_of(browser: Any, name: str) -> str:
    """Text of an element of the page."""
    return str(browser.execute_script("return document.getElementById(arguments[0]).textContent", name))


def pressed(browser: Any, *keys: str) -> None:
    """Press keys where the focus is."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


@pytest.mark.parametrize("kind", KINDS)
def test_loads_alone_and_moves_by_the_keyboard(browser: Any, tmp_path: Path, kind: str) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(browser, tmp_path, kind)
    browser.execute_script("document.getElementById('step').focus()")
    pressed(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "3 of 8" in text_of(browser, "where")
    assert text_of(browser, "values-of").startswith("Step 3, ")
    pressed(browser, Keys.END)
    assert "8 of 8" in text_of(browser, "where")
    pressed(browser, Keys.TAB, Keys.ENTER)  # the button Next, at the end
    assert "8 of 8" in text_of(browser, "where")
    assert browser.get_log("browser") == []


def test_answers_are_those_of_the_step(browser: Any, tmp_path: Path) -> None:
    it = make_inspection("tokens")
    answers = it.answers
    assert isinstance(answers, TokenAnswers)
    step = next(t for t in range(1, 7) if it.steps[t + 1] in answers.words[t])
    opened(browser, tmp_path, "tokens")
    browser.execute_script(
        "const s = document.getElementById('step'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input'))",
        step + 1,
    )
    rows = browser.execute_script(ROWS.format("answers"))
    following = it.steps[step + 1]
    expected = [f"{word} (comes next)" if word == following else word for word in answers.words[step]]
    assert [row[0] for row in rows] == expected
    marked = browser.execute_script("return document.querySelector('#sequence [aria-current]').textContent")
    assert marked == it.steps[step]
    said = text_of(browser, "where")
    assert f"{answers.surprise[step]:.2f} bits" in said
    assert f"a probability of {100 * 2 ** -answers.surprise[step + 1]:.1f}" in said


def test_layer_unit_and_order_are_chosen(browser: Any, tmp_path: Path) -> None:
    it = make_inspection("classes")
    opened(browser, tmp_path, "classes")
    script = (
        "const set = (id, value, kind) => { const e = document.getElementById(id); e.value = value;"
        " e.dispatchEvent(new Event(kind)); };"
        "set('layer', '1', 'change'); set('unit', '2', 'input'); set('step', '5', 'input');"
        "set('order', 'number', 'input');"
    )
    rows = browser.execute_script(script + ROWS.format("values"))
    view = it.views[1]
    assert [row[0] for row in rows] == [f"{view.roles[name]} {name}" for name in view.values]
    for (_, shown), values in zip(rows, view.values.values(), strict=True):
        assert float(shown) == pytest.approx(values[4, 2], abs=2 / 255)
    # Unit 0 is at the top: of its first pixel the colour is that of its value.
    red = browser.execute_script(
        "const s = document.getElementById('step'); s.value = 8; s.dispatchEvent(new Event('input'));"
        "const u = document.getElementById('unit'); u.value = 4; u.dispatchEvent(new Event('input'));"
        "const c = document.querySelector('#maps canvas');"
        "return [...c.getContext('2d').getImageData(10, 8, 1, 1).data].slice(0, 3)"
    )
    from lstm_numba.plots.traces import palette

    level = round(255 * view.values["i"][0, 0])
    assert red == list(palette("viridis")[3 * level : 3 * level + 3])


def test_dark_screens_get_dark_pictures(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    opened(browser, tmp_path, "tokens")
    dark = browser.execute_script("return document.querySelector('picture source').srcset")
    light = browser.execute_script("return document.querySelector('picture img').src")
    assert light != dark
    for scheme, ground, picture in (
        ("light", "rgb(255, 255, 255)", light),
        ("dark", "rgb(22, 22, 22)", dark),
    ):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert colour == ground
        # A browser changes pictures when it has time.
        WebDriverWait(browser, 20).until(lambda b, want=picture: b.execute_script(SHOWN) == want)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_what_a_user_wrote_does_not_run(browser: Any, tmp_path: Path) -> None:
    opened(browser, tmp_path, "classes")
    assert browser.execute_script("return document.querySelectorAll('script').length") == 2
    assert (
        browser.execute_script("return document.querySelectorAll('[onerror], [onmouseover], b').length") == 0
    )
    assert HOSTILE[1] in browser.execute_script("return document.querySelector('h1').textContent")
    # And if markup came in after all, the policy would not let it run.
    ran = browser.execute_script(
        "window.ran = false; const s = document.createElement('script'); s.textContent = 'window.ran = true';"
        "document.body.append(s); return window.ran"
    )
    assert ran is False
