"""The site, built once, and a browser that cannot reach the network.

`site` is the folder of the built pages. `page` is a Chromium page; what it tried to fetch from another host is in
`foreign_requests`, what its console complained about in `console_errors`. `visit` is a page of the site that is opened
once for a whole class of tests.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
LOCAL = ("file:", "data:", "blob:", "about:", "http://localhost:", "http://127.0.0.1:")
# Another theme's colours at once: buttons would fade from one to the other, and a test would have to wait for them.
STILL = """addEventListener("DOMContentLoaded", () => {
    const style = document.createElement("style");
    style.textContent = "* { transition: none !important; }";
    document.head.append(style);
});"""

pytest.register_assert_rewrite("tests.book.pages_in_browser")  # its asserts then show their values, as a test file's do


def build_site(source: Path, target: Path) -> Path:
    """Build the book in `source` below `target`, warnings being errors; return the folder of its pages."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source),
               "--path-output", str(target), "-W", "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True)
    html = target / "_build" / "html"
    if done.returncode or not (html / "index.html").is_file():
        pytest.fail(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-6000:]}", pytrace=False)
    return html


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`_build/html` of the book as it is now, built once for all the tests (and all the workers of one run).

    `BUILT_SITE` names a folder of pages built a moment ago, as `make test` does: the site readers get is looked at then.
    """
    named = os.environ.get("BUILT_SITE")
    if named:
        if not (Path(named) / "index.html").is_file():
            pytest.fail(f"BUILT_SITE={named} holds no index.html: run `make book`, or unset it.", pytrace=False)
        return Path(named)
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    html = shared / "site" / "_build" / "html"
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (html / "index.html").is_file():
            build_site(ROOT, shared / "site")
    return html


def chromium() -> str | None:
    """Path of the browser: `CHROMIUM`, else Debian's, else playwright's own (None)."""
    named = os.environ.get("CHROMIUM")
    if named:
        if not shutil.which(named):
            pytest.fail(f"CHROMIUM={named} is not a program; point it at Chromium or unset it.", pytrace=False)
        return named
    return "/usr/bin/chromium" if Path("/usr/bin/chromium").is_file() else None


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all the tests of this folder."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        yield browser
        browser.close()


@contextmanager
def offline_page(browser: Browser, foreign_requests: list[str], console_errors: list[str]) -> Iterator[Page]:
    """An empty page, 1280 × 900, light, with no network, that adds to the two lists whatever goes wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light",
                                  reduced_motion="reduce")

    def gate(route: Route) -> None:
        if route.request.url.startswith(LOCAL):
            route.continue_()
        else:
            foreign_requests.append(route.request.url)
            route.abort()

    context.add_init_script(STILL)
    context.set_default_timeout(90_000)  # on a machine that does other things too, a page of formulas takes its time
    context.route("**/*", gate)
    page = context.new_page()
    page.on("console", lambda message: console_errors.append(f"{page.url}: {message.text}")
            if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: console_errors.append(f"{page.url}: {error}"))
    try:
        yield page
    finally:
        context.close()


@pytest.fixture
def foreign_requests() -> list[str]:
    """Addresses outside this machine that `page` asked for; each request was refused."""
    return []


@pytest.fixture
def console_errors() -> list[str]:
    """Errors and warnings on the console of `page`, and exceptions nobody caught."""
    return []


@pytest.fixture
def page(browser: Browser, foreign_requests: list[str], console_errors: list[str]) -> Iterator[Page]:
    """An empty page, 1280 × 900, light, with no network: `page.goto((site / "x.html").as_uri())`."""
    with offline_page(browser, foreign_requests, console_errors) as page:
        yield page


@dataclass
class Visit:
    """A page of the site, opened, and what was noted since."""

    name: str  # as in _toc.yml
    path: Path
    page: Page
    asked: set[str]  # every address it asked for, its own among them
    foreign_requests: list[str]
    console_errors: list[str]


@pytest.fixture(scope="class")
def visit(browser: Browser, site: Path, name: str) -> Iterator[Visit]:
    """The page called `name`, all there: files loaded, mathematics typeset. That takes seconds, so it is done once."""
    foreign_requests, console_errors = [], []
    with offline_page(browser, foreign_requests, console_errors) as page:
        opened = Visit(name, site / f"{name}.html", page, set(), foreign_requests, console_errors)
        page.on("request", lambda request: opened.asked.add(request.url))
        page.goto(opened.path.as_uri())
        page.evaluate("() => window.MathJax?.startup?.promise?.then(() => 0)")
        page.wait_for_load_state("networkidle")
        yield opened
