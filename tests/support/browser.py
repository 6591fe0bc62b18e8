"""Chromium without a window, on pages of this machine: what it complains of and where it looks is written down."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect, sync_playwright

WAIT_MS = 15_000


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "chromium is missing: scripts/system.sh says how to install it"
    # Without its sandbox, as root has none; every page it sees is this project's own.
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] if os.geteuid() == 0 else ["--disable-gpu"]
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page, and all that must not happen on it."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        """Errors of scripts, what the console says in red, and what the Content-Security-Policy has kept out."""
        self.elsewhere: list[str] = []
        """Requests to other origins."""
        self.statuses: list[int] = []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("response", lambda reply: self.statuses.append(reply.status))
        page.on("request", lambda request: None if _at(origin, request.url) else self.elsewhere.append(request.url))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) =>"
            " console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));"
        )


def _at(origin: str, url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "data" or f"{parts.scheme}://{parts.netloc}" == origin


@contextlib.contextmanager
def watched_page(browser: Browser, origin: str, **options: object) -> Iterator[Watched]:
    """Open a page of its own; `options` as those of a browser's context."""
    context = browser.new_context(**options)  # type: ignore[arg-type]  # named by the caller, checked by playwright
    try:
        yield Watched(context.new_page(), origin)
    finally:
        context.close()
