"""The page at `/`, in headless Chromium, by keyboard alone."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from served_app import server_process

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
QUERY = "how do vaccines teach the immune system"
LINES = [
    "Stock prices fell on Monday.",
    "Vaccines show the immune system a harmless piece of a germ.",
    "",
    "<b>Bees</b> make honey from nectar.",
]


@contextmanager
def browser(scheme):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,1250"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        yield driver
    finally:
        driver.quit()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def text(driver, name):
    return driver.find_element(By.ID, name).text


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver (Debian's packages)")
def test_the_page_reranks_by_keyboard_and_needs_no_network():
    backgrounds = {}
    with server_process() as server:
        for scheme in ("light", "dark"):
            with browser(scheme) as driver:
                driver.get(server.url)
                until(lambda: text(driver, "status") == "ready")
                assert "default" in text(driver, "models")
                backgrounds[scheme] = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
                # Tab by tab to the query; then what is typed goes where the focus is.
                until(lambda: tab(driver) == "query", 20)
                driver.switch_to.active_element.send_keys(QUERY)
                assert tab(driver) == "documents"
                driver.switch_to.active_element.send_keys("\n".join(LINES))
                assert [tab(driver) for _ in range(4)] == ["model", "top_n", "deadline", "send"]
                outline = "return getComputedStyle(document.activeElement).outlineStyle"
                assert driver.execute_script(outline) == "solid"
                driver.switch_to.active_element.send_keys(Keys.ENTER)
                until(lambda: "documents," in text(driver, "outcome"))
                rows = driver.find_elements(By.CSS_SELECTOR, "#results tr")
                assert len(rows) == 3
                assert LINES[1] in rows[0].text
                cells = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
                shown = {int(number): document for _, _, number, document in cells}
                assert shown == {number: line for number, line in enumerate(LINES, start=1) if line}
                assert "<b>Bees</b>" in text(driver, "results")  # as text, not as a part of the page
                until(lambda: text(driver, "answered") != "0")
                unnamed = "return [...document.querySelectorAll('input,textarea,select')].filter(e => !e.labels.length)"
                assert driver.execute_script(unnamed) == []
                loaded = driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
                assert {name for name in loaded if not name.startswith(server.url)} == set()
                problems = [entry for entry in driver.get_log("browser") if "favicon" not in entry["message"]]
                assert problems == []
                if folder := os.environ.get("CROSSRANK_SCREENSHOTS"):
                    driver.save_screenshot(f"{folder}/service-{scheme}.png")
        policy = httpx.get(server.url).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
    assert backgrounds["light"] != backgrounds["dark"]


def tab(driver):
    """Press Tab; the id of what has the focus then."""
    driver.switch_to.active_element.send_keys(Keys.TAB)
    return driver.switch_to.active_element.get_attribute("id")
