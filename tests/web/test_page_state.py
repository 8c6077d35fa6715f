"""The page's logic: its own tests on a JavaScript engine, and what it makes of a stream that breaks a thousand times."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import httpx

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import ops_page, page
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply
from tests.conftest import PATIENCE_S
from tests.web.browser import node
from tests.web.conftest import Site

HERE = Path(__file__).parent
RECONNECTS = 1000
ABREAST = 10


def run_node(tests: str = "state.test.mjs", **more: str) -> str:
    done = subprocess.run(
        [node(), "--no-warnings", "--test", "--test-reporter=tap", str(HERE / tests)],
        env={**os.environ, "PAGE": Path(str(page.__file__)).parent.as_uri(), **more},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_markdown_becomes_elements_and_nothing_else() -> None:
    assert "# fail 0" in run_node("markdown.test.mjs")


def test_parts_of_strangers_are_shown_as_text_or_not_at_all() -> None:
    assert "# fail 0" in run_node("parts.test.mjs")


def test_wishes_for_messages_last_until_events_say_what_became_of_them() -> None:
    assert "# fail 0" in run_node("wishes.test.mjs")


def test_days_begin_by_the_readers_clock() -> None:
    assert "# fail 0" in run_node("times.test.mjs", TZ="Asia/Tokyo")


def test_the_pure_parts_of_the_operations_page() -> None:
    folder = Path(str(ops_page.__file__)).parent.as_uri()
    assert "# fail 0" in run_node("operations.test.mjs", PAGE=folder)


def test_files_of_other_projects_are_unchanged_and_have_their_licences() -> None:
    folder = Path(str(page.__file__)).parent / "vendor"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    licences = (folder / "LICENSES.txt").read_text(encoding="utf-8")
    found = {path.name: path.read_bytes() for path in folder.glob("*.mjs")}
    assert sorted(found) == ["markdown-it.esm.min.mjs", "remend.mjs"]
    for name, content in found.items():
        assert hashlib.sha256(content).hexdigest() in listed, name
        assert f"({name})" in licences, name


def test_the_pages_logic_does_what_its_own_tests_say() -> None:
    assert "# fail 0" in run_node()


async def test_a_thousand_reconnects_at_random_points_end_with_the_same_transcript(
    site: Site, queue: AssistantMessageQueue, provider: StandInProvider, tmp_path: Path
) -> None:
    provider.model = lambda turn: Reply(
        "Naïve 🙈 résumé — " + " ".join(turn.user_texts) * 3, chunks=40, delay=0.4
    )
    queue.open_events("t")
    transcripts = []
    dice = random.Random(7)
    asking = asyncio.create_task(asyncio.to_thread(ask_three_times, queue))
    async with httpx.AsyncClient(base_url=site.url, timeout=PATIENCE_S) as client:
        left = RECONNECTS
        while left > 0:  # the first listen while the text is said, the others to what is kept
            paths = [
                read_with_breaks(client, random.Random(dice.random()), 12) for _ in range(ABREAST)
            ]
            for events, reconnects in await asyncio.gather(*paths):
                transcripts.append(events)
                left -= reconnects
    await asking
    texts = [[(event["type"], event.get("text")) for event in events] for events in transcripts]
    assert all(one == texts[0] for one in texts)
    (tmp_path / "told.json").write_text(json.dumps(transcripts), encoding="utf-8")
    assert "# fail 0" in run_node(TRANSCRIPTS=str(tmp_path / "told.json"))


def ask_three_times(queue: AssistantMessageQueue) -> None:
    for text in ("one", "two", "three"):
        queue.ask("t", text, author="Ann", timeout=PATIENCE_S)


async def read_with_breaks(
    client: httpx.AsyncClient, dice: random.Random, breaks: int
) -> tuple[list[dict[str, Any]], int]:
    """Everything up to the third reply, with so many breaks on the way."""
    events: list[dict[str, Any]] = []
    last = "0"
    reconnects = 0
    while sum(event["type"] == "reply_ready" for event in events) < 3:
        reconnects += 1
        patience = dice.randrange(1, 12) if reconnects <= breaks else 10_000
        async with client.stream(
            "GET", "/api/threads/t/events", params={"after": last}
        ) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    if event["type"] in {"presence", "caught_up"}:
                        continue
                    events.append(event)
                    last = event["id"]
                    patience -= 1
                    if patience == 0 or sum(one["type"] == "reply_ready" for one in events) == 3:
                        break
    return events, reconnects - 1
