"""A real Chromium for the tests of the page, and the JavaScript engine that Playwright brings."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.conftest import PATIENCE_S

Person = Callable[..., Awaitable[Page]]
"""Opens the page under a name."""

VARIABLE = "ASSISTANT_QUEUE_CHROMIUM"
NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
"""The shell first: the same engine without a desktop browser around it, for half the CPU."""
PACKAGES = ("chromium-headless-shell", "chromium")
"""Of Debian, the first that there is."""
FONT = "fonts-noto-color-emoji"
"""Without it emoji are boxes in screenshots of the page."""
INSTALL_S = 240


@functools.cache
def chromium() -> str:
    """Return the browser's path; without one the run fails, as an untested page must not pass.

    Set ASSISTANT_QUEUE_CHROMIUM to a program, or to "none" to leave these tests out on purpose.
    """
    named = os.environ.get(VARIABLE)
    if named == "none":
        pytest.skip(f"{VARIABLE}=none: the page is not tested in a browser")
    found = named or _found() or _installed()
    if found is None or not Path(found).exists():
        pytest.fail(
            "no Chromium: install one (Debian: apt install chromium-headless-shell; anywhere: python -m playwright install --with-deps chromium), "
            f"name one in {VARIABLE}, or say {VARIABLE}=none to leave the tests of the page out"
        )
    return found


def _playwrights_own() -> str | None:
    """Return Playwright's directory of downloaded browsers."""
    places = [
        Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    ]
    places.append(Path.home() / "Library" / "Caches" / "ms-playwright")
    patterns = (
        "chromium_headless_shell-*/*/*headless[-_]shell",
        "chromium-*/chrome-linux*/chrome",
        "chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
    )
    return next(
        (
            str(path)
            for place in places
            for pattern in patterns
            for path in sorted(place.glob(pattern))
        ),
        None,
    )


def _found() -> str | None:
    return (
        next((path for name in NAMES if (path := shutil.which(name))), None) or _playwrights_own()
    )


@functools.cache
def _installed() -> str | None:
    """Get one, once for all test processes: by the system's packages where that is allowed, else by Playwright's own download."""
    commands = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        install = ["apt-get", "install", "-y", "--no-install-recommends", FONT]
        commands = [["apt-get", "update"], *([*install, name] for name in PACKAGES), *commands]
    with (Path(tempfile.gettempdir()) / "assistant-queue-chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in commands:
            if _found() is None:
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    subprocess.run(
                        command,
                        timeout=INSTALL_S,
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        check=False,
                    )
    return _found()


@functools.cache
def node() -> str:
    """The JavaScript engine of Playwright's own driver: it comes with the package, no browser needed."""
    import playwright

    found = Path(playwright.__file__).parent / "driver" / "node"
    return str(found) if found.exists() else str(shutil.which("node"))


async def until_true(page: Page, function: str) -> None:
    """Wait until a JavaScript function returns true, asked once a frame.

    Playwright's `wait_for_function` evaluates its text again for each further look, which the
    Content-Security-Policy of our pages refuses.
    """
    look = f"""() => new Promise((done) => {{
      const holds = {function};
      const look = () => (holds() ? done() : requestAnimationFrame(look));
      look();
    }})"""
    await asyncio.wait_for(page.evaluate(look), PATIENCE_S)


async def say(page: Page, *texts: str) -> None:
    for text in texts:
        await page.fill("#text", text)
        await page.keyboard.press("Enter")


async def items(page: Page) -> list[str]:
    """Return the texts of the messages and answers on the page."""
    return await page.locator(".items .bubble, .items .text").all_inner_texts()


def replies(page: Page, state: str = "") -> Any:
    return page.locator(f".items .reply{state} .text")
