"""A real browser: Debian's chromium and its driver, where they are installed."""

import contextlib
import os
import shutil
import tempfile

import pytest


@contextlib.contextmanager
def browser(width=1280, height=1000):
    """A headless browser with a profile of its own; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (
            *("--headless=new", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--window-size={width},{height}", f"--user-data-dir={profile}"),
            *(("--no-sandbox",) if os.geteuid() == 0 else ()),  # chromium's own rule
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        opened = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield opened
        finally:
            opened.quit()


def wait(opened, condition, seconds=90):
    """Return what a condition gives, once it gives anything; fail with the page's text."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        return WebDriverWait(opened, seconds).until(lambda _: condition())
    except TimeoutException:
        pytest.fail(f"{opened.current_url}\n{text(opened)}")


def text(opened):
    """All text that the page shows, that of its drawings too."""
    return opened.execute_script("return document.body.innerText")
