"""The built site (`make docs`) and a report, opened as files in headless Chromium: nothing is fetched, search works."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / ".site"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SHOWN = """
const text = node => [node.innerText ?? "", ...[...node.querySelectorAll("*")].filter(e => e.shadowRoot).map(
  e => [...e.shadowRoot.children].map(text).join(" "))].join(" ")
return text(document.body)
"""
"""Text of the page, and of its elements that keep theirs to themselves."""
needs_chromium = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver")
needs_site = pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="no site: make docs")


@contextmanager
def browser(scheme="light"):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
    finally:
        driver.quit()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def fetched(driver):
    return driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")


def found_pages(driver):
    """How many results the search shows, by its own words."""
    shown = driver.execute_script(SHOWN)
    found = re.search(r"(\d+) results?", shown)
    return int(found[1]) if found else 0


def background(driver):
    return driver.execute_script("return getComputedStyle(document.body).backgroundColor")


@needs_chromium
@needs_site
def test_pages_opened_as_files_load_nothing_from_elsewhere_and_are_searched():
    backgrounds = set()
    for scheme in ("light", "dark"):
        with browser(scheme) as driver:
            driver.get((SITE / "guides" / "long-documents.html").as_uri())
            until(lambda: driver.execute_script("return document.readyState") == "complete")
            backgrounds.add(background(driver))
            if scheme == "light":
                time.sleep(1)  # the page's own script has to be listening to keys
                driver.switch_to.active_element.send_keys("/")
                until(lambda: driver.execute_script("return !!document.activeElement.shadowRoot?.activeElement"))
                driver.switch_to.active_element.send_keys("honey windows")
                until(lambda: found_pages(driver))
            assert [name for name in fetched(driver) if not name.startswith("file:")] == []
            assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert len(backgrounds) == 2


@needs_chromium
def test_a_report_is_shown_in_light_and_dark_without_loading_anything(tiny_artifact, tmp_path):
    from crossrank.benchmarks.report.content import make_report
    from crossrank.benchmarks.report.page import html_page

    page = tmp_path / "report.html"
    page.write_text(html_page(make_report(tiny_artifact, command="", seconds=0, top_ks=(1, 2))), encoding="utf-8")
    backgrounds, inks = set(), set()
    for scheme in ("light", "dark"):
        with browser(scheme) as driver:
            driver.get(page.as_uri())
            backgrounds.add(background(driver))
            inks.add(driver.execute_script("return getComputedStyle(document.querySelector('svg text')).fill"))
            assert fetched(driver) == []
            assert driver.get_log("browser") == []
            assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert len(backgrounds) == len(inks) == 2
