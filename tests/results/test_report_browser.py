"""The report in a real browser: no request, no error, plots, sorting, dark mode, a narrow screen, hostile words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

import automl
from automl.results import summarise
from automl.results.report import write_report
from automl.results.study import read_run
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import browser_required, copy_run
from tests.results.conftest import HTML, LONG

pytestmark = [pytest.mark.browser, pytest.mark.ray, pytest.mark.xdist_group("browser")]

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


def titles(chrome: webdriver.Chrome) -> list[str]:
    return [button.text for button in chrome.find_elements(By.CSS_SELECTOR, ".sortable thead button")]


def column(chrome: webdriver.Chrome, title: str) -> list[str]:
    """What is seen of a column, from the top down."""
    number = titles(chrome).index(title) + 1
    rows = ".sortable tbody tr:not([hidden], .settings-of)"
    cells = chrome.find_elements(By.CSS_SELECTOR, f"{rows} td:nth-child({number})")
    return [cell.text for cell in cells]


def title_button(chrome: webdriver.Chrome, title: str) -> WebElement:
    return chrome.find_elements(By.CSS_SELECTOR, ".sortable thead button")[titles(chrome).index(title)]


def seconds(text: str) -> float:
    """Of `45s`, `3m 05s` or a plain number."""
    minutes, _, rest = text.rpartition("m ")
    return 60 * float(minutes or 0) + float(rest.rstrip("s").replace(",", ""))


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
    ranks = column(chrome, "rank")
    assert ranks == [*map(str, range(1, 19)), "", "", "", "", "", ""]
    for title in ("trial", "validation", "time", "parameters"):
        for direction in ("ascending", "descending"):
            title_button(chrome, title).click()
            values = [seconds(text) for text in column(chrome, title) if text]
            assert values == sorted(values, reverse=direction == "descending") and len(values) >= 18
            cells = column(chrome, title)
            assert all(cells[: len(values)]) and not any(cells[len(values) :])  # empty ones last, either way
            marked = chrome.find_elements(By.CSS_SELECTOR, ".sortable th[aria-sort]")
            assert [header.get_attribute("aria-sort") for header in marked] == [direction]
            assert marked[0].text.split()[0] == title
    title_button(chrome, "family").send_keys(Keys.ENTER)  # without a mouse
    assert column(chrome, "family") == sorted(column(chrome, "family"))
    title_button(chrome, "rank").click()
    assert column(chrome, "rank") == ranks
    assert chrome.get_log("browser") == []


def test_words_family_and_status_filter_the_leaderboard(chrome: webdriver.Chrome, hostile_run: RunDirectory) -> None:
    show(chrome, summarise(hostile_run).directory.report)
    everything = column(chrome, "trial")
    rows = [row for row in automl.leaderboard(hostile_run.path) if row["trial"] is not None]

    def chosen(**wanted: str) -> list[str]:
        return [str(row["trial"]) for row in rows if all(row[name] == value for name, value in wanted.items())]

    Select(chrome.find_element(By.ID, "filter-status")).select_by_visible_text("failed")
    assert column(chrome, "trial") == chosen(status="failed") and len(chosen(status="failed")) == 5
    Select(chrome.find_element(By.ID, "filter-family")).select_by_visible_text("cnn")
    assert column(chrome, "trial") == chosen(status="failed", family="cnn")
    assert f"{len(chosen(status='failed', family='cnn'))} of {len(everything)} rows" in count(chrome)
    title_button(chrome, "trial").click()
    assert column(chrome, "trial") == sorted(chosen(status="failed", family="cnn"), key=int)
    for name in ("filter-status", "filter-family"):
        Select(chrome.find_element(By.ID, name)).select_by_visible_text("all")
    words = chrome.find_element(By.ID, "filter-words")
    words.send_keys("MEMORY failed")
    assert sorted(column(chrome, "trial"), key=int) == ["3", "12", "20"]
    words.send_keys(" nowhere")
    assert column(chrome, "trial") == [] and count(chrome).startswith("0 of")
    words.clear()
    words.send_keys(Keys.SPACE, Keys.ENTER)  # the form goes nowhere
    assert sorted(column(chrome, "trial")) == sorted(everything) and count(chrome) == ""
    assert chrome.get_log("browser") == []


def count(chrome: webdriver.Chrome) -> str:
    return chrome.find_element(By.ID, "filter-count").text


def test_a_point_says_which_trial_it_is(chrome: webdriver.Chrome, finished: RunDirectory) -> None:
    show(chrome, finished.report)
    point = chrome.find_element(By.CSS_SELECTOR, "[data-figure=history] .scatterlayer .trace:first-child .point")
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(chrome).move_to_element(point).perform()
    wait_for(chrome, "return document.querySelector('[data-figure=history] .hovertext')")
    assert "trial 0" in chrome.find_element(By.CSS_SELECTOR, "[data-figure=history] .hoverlayer").text
    assert chrome.get_log("browser") == []


COLOURS = (
    "return [getComputedStyle(document.body).backgroundColor, "
    "getComputedStyle(document.querySelector('[data-figure=curves] .xtick text')).fill, "
    "getComputedStyle(document.querySelector('[data-figure=curves] .js-line')).stroke]"
)


def test_a_button_makes_page_and_plots_dark_and_is_remembered(chrome: webdriver.Chrome, finished: RunDirectory) -> None:
    show(chrome, finished.report)
    light = chrome.execute_script(COLOURS)
    button = chrome.find_element(By.ID, "theme")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    dark = chrome.execute_script(COLOURS)
    assert button.get_attribute("aria-pressed") == "true"
    assert all(one != other for one, other in zip(light, dark, strict=True)) and contrast(*dark[:2]) > 7
    show(chrome, finished.report)  # the system's scheme is still light
    assert chrome.execute_script(COLOURS) == dark
    chrome.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert chrome.execute_script(COLOURS) == light  # on paper
    chrome.execute_script("dispatchEvent(new Event('afterprint'))")
    assert chrome.execute_script(COLOURS) == dark
    chrome.find_element(By.ID, "theme").click()
    assert chrome.execute_script(COLOURS) == light
    chrome.execute_script("localStorage.clear()")
    assert chrome.get_log("browser") == []


def test_it_can_be_read_by_ear_and_without_a_mouse(chrome: webdriver.Chrome, hostile_run: RunDirectory) -> None:
    show(chrome, summarise(hostile_run).directory.report)
    levels = chrome.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    unnamed = "return [...document.querySelectorAll('table')].filter(table => !table.caption).length"
    assert chrome.execute_script(unnamed) == 0
    assert chrome.execute_script("return document.querySelectorAll('th:not([scope])').length") == 0
    mute = (
        "return [...document.querySelectorAll('.plot, .scroll, select, input')].filter(element => !(element.labels || "
        "[]).length && !element.ariaLabel && !element.hasAttribute('aria-labelledby')).length"
    )
    assert chrome.execute_script(mute) == 0
    reachable = "return [...document.querySelectorAll('.scroll')].every(element => element.tabIndex === 0)"
    assert chrome.execute_script(reachable)
    links = chrome.find_elements(By.CSS_SELECTOR, "nav a")
    targets = [chrome.find_element(By.ID, str(link.get_attribute("href")).partition("#")[2]) for link in links]
    assert [target.tag_name for target in targets] == ["h2"] * len(links) and len(links) > 8
    for name in ("ink", "quiet", "accent", "warn"):
        probe = f"return [getComputedStyle(document.body).backgroundColor, colour('{name}')]"
        assert contrast(*chrome.execute_script(probe)) > 4.5, name  # WCAG 2.2, AA


def test_it_follows_the_colour_scheme_while_open(chrome: webdriver.Chrome, finished: RunDirectory) -> None:
    show(chrome, finished.report)
    light = chrome.execute_script(COLOURS)
    prefer(chrome, "dark")
    wait_for(chrome, f"return !({json.dumps(light)}).includes((() => {{ {COLOURS} }})()[1])")
    dark = chrome.execute_script(COLOURS)
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert contrast(*dark[:2]) > 7 and contrast(*light[:2]) > 7
    prefer(chrome, "light")
    wait_for(chrome, f"return (() => {{ {COLOURS} }})()[1] === {json.dumps(light[1])}")
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
    plots = "[...document.querySelectorAll('.plot:not(.wide)')]"
    assert chrome.execute_script(f"return Math.max(...{plots}.map(plot => plot.offsetWidth))") <= 400


def with_classes(run: RunDirectory, path: Path, count: int) -> RunDirectory:
    """A copy of a run with as many classes, whose names are words, with rows of each that are taken for each other."""
    run = copy_run(run, path)
    names = [f"{['short', 'of several words and more', 'incomprehensibilities'][n % 3]} {n}" for n in range(count)]
    manifest, finalists = read_json(run.manifest), read_json(run.finalists)
    manifest["data"]["classes"] = names
    profile = manifest["data"]["profile"]
    profile["classes"] = {split: dict.fromkeys(names, 1234) for split in profile["classes"]}
    classes = range(count)
    finalists["confusion"] = [[2345 if row == said else (row + said) % 7 for said in classes] for row in classes]
    examination = read_json(run.examination)
    for row in examination["hardest"]:
        row["truth"], row["said"] = names[0], names[-1]
    for file, content in ((run.manifest, manifest), (run.finalists, finalists), (run.examination, examination)):
        write_json(file, content)
    write_report(read_run(run))
    return run


SCROLLING = """
return [...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth)
  .map(each => each.getAttribute('aria-label') || each.getAttribute('aria-labelledby'))
"""
OUTSIDE = """
return [...document.querySelectorAll('.matrix th, .matrix td')].filter(cell => cell.offsetParent)
  .filter(cell => cell.getBoundingClientRect().right > innerWidth || cell.scrollWidth > cell.clientWidth + 1)
  .map(cell => cell.outerHTML)
"""


@pytest.mark.parametrize("width", [1280, 800, 400])
@pytest.mark.parametrize("count", [2, 5, 6, 7, 12, 20, 60])
def test_no_class_is_out_of_sight(
    chrome: webdriver.Chrome, finished: RunDirectory, tmp_path: Path, count: int, width: int
) -> None:
    show(chrome, with_classes(finished, tmp_path / "run", count).report, width=width)
    assert chrome.execute_script(OUTSIDE) == []
    matrix = chrome.find_elements(By.CSS_SELECTOR, ".matrix")
    pairs = chrome.find_elements(By.CSS_SELECTOR, "[aria-label='Classes that are confused most']")
    shown = [each for each in (*matrix, *pairs) if each.is_displayed()]
    room = {1280: 20, 800: 12, 400: 6}[width]
    assert len(shown) == 1 and (shown[0] in matrix) == (count <= room)
    page = "document.documentElement"
    assert chrome.execute_script(f"return {page}.scrollWidth - {page}.clientWidth") == 0
    scrolling = chrome.execute_script(SCROLLING)
    assert not [each for each in scrolling if width == 1280 or not (each == "leaderboard" or "side by side" in each)]


@pytest.mark.parametrize("width", [1280, 800, 400])
def test_the_curves_are_seen_at_once(chrome: webdriver.Chrome, finished: RunDirectory, width: int) -> None:
    show(chrome, finished.report, width=width)
    curves = "document.querySelector('[data-figure=curves]').getBoundingClientRect()"
    assert chrome.execute_script(f"return {curves}.top") < 700
    assert width < 1280 or chrome.execute_script(f"return {curves}.bottom") <= 800


def test_settings_stay_with_their_trial(chrome: webdriver.Chrome, finished: RunDirectory) -> None:
    pairs = """return [...document.querySelectorAll('#trials tbody tr:not(.settings-of)')].map(
      row => [row.cells[1].textContent, row.nextElementSibling?.matches('.settings-of:not([hidden])')
        ? row.nextElementSibling.textContent.trim() : '', row.hidden])"""
    show(chrome, finished.report)
    before = chrome.execute_script(pairs)
    settings = {trial: words for trial, words, _ in before if trial}
    assert len(settings) == 10 and all("learning_rate" in words for words in settings.values())
    for title in ("trial", "status", "trial"):
        title_button(chrome, title).click()
        after = chrome.execute_script(pairs)
        assert {trial: words for trial, words, _ in after if trial} == settings
    chrome.find_element(By.ID, "filter-words").send_keys("lstm")
    found = {trial for trial, words, hidden in chrome.execute_script(pairs) if not hidden and trial}
    assert found == {trial for trial, words in settings.items() if "lstm" in words}


def test_words_that_look_like_html_stay_words(chrome: webdriver.Chrome, hostile_run: RunDirectory) -> None:
    show(chrome, summarise(hostile_run).directory.report)
    assert chrome.title == hostile_run.name == "<i>run&amp;"
    assert chrome.find_elements(By.CSS_SELECTOR, "main img, main b, header i, main script") == []
    text = " ".join(chrome.find_element(By.TAG_NAME, "body").text.split())
    assert text.count(HTML) >= 7  # in data, matrix, scores, warning, leaderboard, failures and hardest rows
    assert chrome.find_element(By.CSS_SELECTOR, ".hard blockquote").text == HTML
    assert LONG in text and hostile_run.name in text
    hover = chrome.execute_script(
        "return document.querySelector('[data-figure=curves]').data.flatMap(trace => trace.text || [])"
    )
    assert hover and all("<" not in words.replace("<br>", "") for words in hover)
    assert chrome.get_log("browser") == []


POLICY = "return document.querySelector('meta[http-equiv=Content-Security-Policy]').content"


def test_the_policy_names_what_may_run_by_its_hash(chrome: webdriver.Chrome, hostile_run: RunDirectory) -> None:
    page = summarise(hostile_run).directory.report
    show(chrome, page)
    policy = chrome.execute_script(POLICY)
    assert "unsafe-inline" not in policy and "unsafe-eval" not in policy and policy.startswith("default-src 'none'")
    assert policy.count("sha256-") == 5
    assert chrome.find_elements(By.CSS_SELECTOR, "main [style*=share]")  # set by script from data
    contour = (
        "[{type: 'contour', z: [[1, 2], [3, 4]], contours: {coloring: 'heatmap'}, colorbar: {title: {text: 'x'}}}]"
    )
    chrome.execute_script(f"Plotly.newPlot(document.querySelector('[data-figure=history]'), {contour})")
    wait_for(chrome, "return document.querySelector('.contourlayer path') && document.querySelector('.cbfill')")
    shades = "return getComputedStyle(document.querySelector('.confusion td[data-share]')).backgroundColor"
    assert chrome.execute_script(shades) != "rgba(0, 0, 0, 0)"
    assert chrome.get_log("browser") == []
    # What gets into the page all the same does not run.
    inserted = (
        "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
        "<style>body { display: none }</style><a id=go href=\"javascript:document.title='owned'\">x</a>"
    )
    broken = page.with_name("broken.html")
    broken.write_text(page.read_text(encoding="utf-8").replace("<main>", f"<main>{inserted}"), encoding="utf-8")
    show(chrome, broken)
    chrome.execute_script("document.getElementById('go').click()")
    assert chrome.title == hostile_run.name and chrome.find_element(By.TAG_NAME, "main").is_displayed()
    blocked = [entry["message"] for entry in chrome.get_log("browser")]
    assert sum("Content Security Policy" in message for message in blocked) >= 4
