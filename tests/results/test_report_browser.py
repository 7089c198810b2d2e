"""The report in a real browser: no request, no error, plots, sorting, dark mode, a narrow screen, hostile words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import automl
from automl.results import summarise
from automl.training.run_directory import RunDirectory
from tests.conftest import browser_required
from tests.results.conftest import HTML, LONG

pytestmark = [pytest.mark.browser, pytest.mark.ray]

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def start_browser(profile: Path) -> webdriver.Chrome:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        raise FileNotFoundError("chromium" if browser is None else "chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    try:
        browser = start_browser(tmp_path_factory.mktemp("profile"))
    except (FileNotFoundError, WebDriverException) as error:
        if browser_required():
            raise
        pytest.skip(f"no browser to open the report in: {str(error).splitlines()[0]}")
    browser.get("about:blank")
    yield browser
    browser.quit()


def show(chrome: webdriver.Chrome, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
    """Open `page` afresh and wait until its plots are drawn."""
    for kind in ("browser", "performance"):
        chrome.get_log(kind)  # what earlier pages left
    prefer(chrome, scheme)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chrome.get(page.as_uri())
    wait_for(chrome, "return [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.main-svg'))")


def prefer(chrome: webdriver.Chrome, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait_for(chrome: webdriver.Chrome, script: str) -> None:
    WebDriverWait(chrome, 20).until(lambda browser: browser.execute_script(script))


def requests(chrome: webdriver.Chrome) -> list[str]:
    found = []
    for entry in chrome.get_log("performance"):
        message: dict[str, Any] = json.loads(entry["message"])["message"]
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            found.append(message["params"].get("url") or message["params"]["request"]["url"])
    return found


def column(chrome: webdriver.Chrome, number: int) -> list[str]:
    return [cell.text for cell in chrome.find_elements(By.CSS_SELECTOR, f".sortable tbody td:nth-child({number})")]


def test_it_opens_without_a_request_or_an_error(chrome: webdriver.Chrome, finished: RunDirectory) -> None:
    show(chrome, finished.report)
    assert chrome.get_log("browser") == []
    urls = requests(chrome)
    assert finished.report.as_uri() in urls
    assert all(url.startswith(("file:", "data:", "blob:")) for url in urls), urls
    assert chrome.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    title = chrome.find_element(By.TAG_NAME, "h1").text
    assert title == "small" and chrome.title == finished.name


def test_every_trial_is_drawn(chrome: webdriver.Chrome, finished: RunDirectory) -> None:
    show(chrome, finished.report)
    rows = [row for row in automl.leaderboard(finished.path) if row["trial"] is not None]
    curves = "document.querySelector('[data-figure=curves]')"
    assert chrome.execute_script(f"return {curves}.querySelectorAll('.scatterlayer .trace path.js-line').length") == 10
    drawn = chrome.execute_script(f"return {curves}.data.filter(trace => trace.mode == 'lines').map(trace => trace.y)")
    assert sorted(max(line) for line in drawn) == sorted(row["score"] for row in rows)
    points = chrome.execute_script(
        "return document.querySelectorAll('[data-figure=history] .scatterlayer .trace:first-child .point').length"
    )
    assert points == 10
    assert chrome.find_elements(By.CSS_SELECTOR, "[data-figure=importance0] .bars .point")


def test_a_click_on_a_title_sorts_and_another_turns_it_round(
    chrome: webdriver.Chrome, hostile_run: RunDirectory
) -> None:
    show(chrome, summarise(hostile_run).directory.report)
    ranks = column(chrome, 1)
    assert ranks == [*map(str, range(1, 19)), "", "", "", "", "", ""]
    for number in (2, 4, 8):
        button = chrome.find_element(By.CSS_SELECTOR, f".sortable th:nth-child({number}) button")
        for direction in ("ascending", "descending"):
            button.click()
            values = [float(text.replace(",", "")) for text in column(chrome, number) if text]
            assert values == sorted(values, reverse=direction == "descending") and len(values) >= 18
            cells = column(chrome, number)
            assert all(cells[: len(values)]) and not any(cells[len(values) :])  # empty ones last, either way
            marked = chrome.find_elements(By.CSS_SELECTOR, ".sortable th[aria-sort]")
            assert [header.get_attribute("aria-sort") for header in marked] == [direction]
            assert marked[0].text.split()[0] == button.text
    chrome.find_element(By.CSS_SELECTOR, ".sortable th:nth-child(3) button").click()
    assert column(chrome, 3) == sorted(column(chrome, 3))
    chrome.find_element(By.CSS_SELECTOR, ".sortable th:nth-child(1) button").click()
    assert column(chrome, 1) == ranks
    assert chrome.get_log("browser") == []


def test_it_follows_the_colour_scheme_while_open(chrome: webdriver.Chrome, finished: RunDirectory) -> None:
    show(chrome, finished.report)
    colours = (
        "return [getComputedStyle(document.body).backgroundColor, "
        "getComputedStyle(document.querySelector('[data-figure=curves] .xtick text')).fill, "
        "getComputedStyle(document.querySelector('[data-figure=curves] .js-line')).stroke]"
    )
    light = chrome.execute_script(colours)
    prefer(chrome, "dark")
    wait_for(chrome, f"return !({json.dumps(light)}).includes((() => {{ {colours} }})()[1])")
    dark = chrome.execute_script(colours)
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert contrast(*dark[:2]) > 7 and contrast(*light[:2]) > 7
    prefer(chrome, "light")
    wait_for(chrome, f"return (() => {{ {colours} }})()[1] === {json.dumps(light[1])}")
    assert chrome.get_log("browser") == []


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two `rgb(r, g, b)` colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_scrolls_down_only(chrome: webdriver.Chrome, hostile_run: RunDirectory, scheme: str) -> None:
    show(chrome, summarise(hostile_run).directory.report, width=400, scheme=scheme)
    page = "document.documentElement"
    assert chrome.execute_script(f"return {page}.scrollWidth - {page}.clientWidth") == 0
    wide = chrome.execute_script(
        "return [...document.querySelectorAll('main *')].filter(element => !element.closest('.scroll, .plot') "
        "&& element.getBoundingClientRect().right > 400).map(element => element.outerHTML.slice(0, 200))"
    )
    assert wide == []
    rows = "[...document.querySelectorAll('.sortable tr')]"
    assert chrome.execute_script(f"return Math.max(...{rows}.map(row => row.offsetHeight))") < 160
    plots = "[...document.querySelectorAll('.plot')]"
    assert chrome.execute_script(f"return Math.max(...{plots}.map(plot => plot.offsetWidth))") <= 400


def test_words_that_look_like_html_stay_words(chrome: webdriver.Chrome, hostile_run: RunDirectory) -> None:
    show(chrome, summarise(hostile_run).directory.report)
    assert chrome.title == hostile_run.name == "<i>run&amp;"
    assert chrome.find_elements(By.CSS_SELECTOR, "main img, main b, header i, main script") == []
    text = " ".join(chrome.find_element(By.TAG_NAME, "body").text.split())
    assert text.count(HTML) >= 5  # in classes, matrix, warning, leaderboard or failures
    assert LONG in text and hostile_run.name in text
    hover = chrome.execute_script(
        "return document.querySelector('[data-figure=curves]').data.flatMap(trace => trace.text || [])"
    )
    assert hover and all("<" not in words.replace("<br>", "") for words in hover)
    assert chrome.get_log("browser") == []
