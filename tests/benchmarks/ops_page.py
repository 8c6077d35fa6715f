"""The operations page in two browsers at once, with 100,000 threads: `python -m tests.benchmarks.ops_page`.

Times until a view can be used, and until one browser shows what the other has changed. With a
directory as the argument, screenshots are kept there: light, dark, and on a phone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright, expect

from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import metric_history
from tests.benchmarks.bench import TEXT, Bench
from tests.benchmarks.depth import Filled
from tests.benchmarks.ops import FAILED, _fail
from tests.benchmarks.sizes import FULL
from tests.benchmarks.table import Row, render
from tests.benchmarks.web import served
from tests.web.browser import chromium

GROUP = "operations page"
ROUNDS = 5
CHANGES = 5
THREADS = 100_000
VIEWS = {
    "overview": "",
    "threads": "threads",
    "threads in a state that none is in": "threads?state=active",
    "one thread": "threads/waiting 7",
    "failed list": "failed",
    "search of a text that is nowhere": "search?q=zebra crossing",
    "record": "record",
}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}


def main() -> None:
    """Measure and print."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with Bench(FULL) as bench:
        prefix = bench.fresh_prefix()
        with bench.queue() as queue, served(bench, queue_prefix=prefix) as (port, _):
            namespace = Namespace(prefix, queue.core.clock)
            filled = Filled(queue.core.store, namespace, THREADS, per_thread=1)
            for number in range(FAILED):
                _fail(filled, f"failed {number}")
            _give_a_past(filled)
            rows += asyncio.run(_measure(f"http://127.0.0.1:{port}/ops", directory))
    sys.stdout.write(render(rows) + "\n")


def _give_a_past(filled: Filled) -> None:
    """Write an hour of samples, so that the charts have lines."""
    run = filled.store.run
    filled.store.client.delete(filled.namespace.keys.history)  # later ones exclude earlier ones
    metrics = run(metric_history.read_metrics(filled.namespace))
    for minute in range(60):
        at = metrics.at - timedelta(minutes=60 - minute)
        missing = 40 * (60 - minute) - 9 * (minute % 7)
        past = {"queued": metrics.messages["queued"] - missing, "failed": minute // 4}
        sample = dataclasses.replace(metrics, at=at, messages={**metrics.messages, **past})
        run(metric_history.keep(filled.namespace, sample))


async def _measure(url: str, directory: Path | None) -> list[Row]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        pages = [await _page(browser, "light") for _ in range(2)]
        rows = []
        for name, view in VIEWS.items():
            taken: list[float] = []
            for _ in range(ROUNDS):
                taken += await asyncio.gather(*(_usable_ms(page, url, view) for page in pages))
            rows.append(_row(f"{name}, usable in two browsers at once", taken))
        rows.append(_row("a change, seen in the other browser", await _changes(url, *pages)))
        if directory is not None:
            for look in LOOKS:
                await _picture(await _page(browser, look), url, directory, look)
        await browser.close()
    return rows


async def _page(browser: Browser, look: str) -> Page:
    context = await browser.new_context(**LOOKS[look], reduced_motion="reduce")
    return await context.new_page()


async def _usable_ms(page: Page, url: str, view: str) -> float:
    await page.goto("about:blank")
    start = time.perf_counter()
    await _open(page, url, view)
    return (time.perf_counter() - start) * 1000


async def _open(page: Page, url: str, view: str) -> None:
    await page.goto(f"{url}#/{view}")
    await expect(page.locator("html")).to_have_attribute("data-loaded", "yes", timeout=30_000)


async def _changes(url: str, one: Page, other: Page) -> list[float]:
    for page in (one, other):
        await _open(page, url, "threads/waiting 9")
    taken = []
    for number in range(CHANGES):
        done, left = ("Pause", "Resume") if number % 2 == 0 else ("Resume", "Pause")
        actor, watcher = (one, other) if number % 2 == 0 else (other, one)
        start = time.perf_counter()
        await actor.get_by_role("button", name=done, exact=True).click()
        await expect(watcher.get_by_role("button", name=left, exact=True)).to_be_visible(
            timeout=30_000
        )
        taken.append((time.perf_counter() - start) * 1000)
    return taken


async def _picture(page: Page, url: str, directory: Path, look: str) -> None:
    views = {**VIEWS, "search": f"search?q={TEXT[:12]}"}
    for name, view in views.items():
        await page.goto("about:blank")
        await _open(page, url, view)
        await page.screenshot(path=directory / f"{look} {name}.png")


def _row(what: str, taken: list[float]) -> Row:
    return Row(
        group=GROUP,
        what=what,
        here=f"median {statistics.median(taken):.0f} ms, longest {max(taken):.0f} ms",
    )


if __name__ == "__main__":
    main()
