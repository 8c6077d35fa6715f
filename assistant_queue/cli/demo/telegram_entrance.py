"""The demo's people on Telegram: a strict fake of the platform, which misbehaves in between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue as queue_module
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from assistant_queue.channels.telegram import Telegram
from assistant_queue.channels.telegram_text import render
from assistant_queue.cli.demo.board import Board, BoardAnswer, BoardMessage
from assistant_queue.cli.demo.entrance import Entrance
from assistant_queue.cli.demo.lines import Line
from assistant_queue.cli.demo.scene import Scene
from assistant_queue.cli.demo.screens import UNFINISHED, ScreensVerdict, judge_screens
from assistant_queue.models import FailedBatch, Receipt
from assistant_queue.testing.channels import (
    AnswerWith,
    LoseAnswer,
    PlatformRequest,
    StandInTelegram,
)
from assistant_queue.testing.channels.platform_server import TOO_MANY_REQUESTS

if TYPE_CHECKING:
    from assistant_queue.client.queue import AssistantMessageQueue

AWAY_S = 2.0
"""Chosen: longer than the first wait of a delivery, short enough to watch."""
REFUSED = 4
LOST = 2
_FIRST_CHAT = 1001
_SHORT = 1000
"""Characters of a reply in one part: whether it arrived can be seen on the screen."""


def on_telegram(scene: Scene) -> Scene:
    """Return a scene with its threads as chats: a group for several people, a private one else."""
    groups = {line.thread for line in scene.lines if line.author is not None}
    threads = {
        thread: f"telegram:{'-' if thread in groups else ''}{number}"
        for number, thread in enumerate(scene.threads, _FIRST_CHAT)
    }
    return replace(
        scene,
        title=f"{scene.title}, on Telegram",
        lines=tuple(
            replace(
                line,
                thread=threads[line.thread],
                author=line.author or line.thread.replace("-", " ").capitalize(),
            )
            for line in scene.lines
        ),
        stories={threads[thread]: story for thread, story in scene.stories.items()},
    )


class TelegramEntrance(Entrance):
    """People who write on a fake Telegram, and the process that polls its updates.

    1. `running` starts both, and ends them.
    2. `news` lets the platform misbehave: it refuses, loses answers, and goes away.
    3. `settle` looks at the screen for a reply that the platform could not be asked about.
    4. `judge` compares all screens with what the model said.
    """

    def __init__(self, platform: StandInTelegram, queue: AssistantMessageQueue) -> None:
        """Describe it; nothing runs before `running`."""
        super().__init__(queue)
        self._platform = platform
        self._channel = Telegram(platform.token, api_url=platform.url, reply_when="always")
        self._said: dict[str, tuple[Line, float]] = {}
        self._receipts: queue_module.SimpleQueue[Receipt] = queue_module.SimpleQueue()
        self._plan: deque[tuple[float, Callable[[], str]]] = deque(
            [
                (0.2, self._refuse),
                (0.4, partial(self._lose, "editMessageText")),
                (0.6, self._go_away),
                (0.95, partial(self._lose, "sendMessage")),
            ]
        )
        self._gone_at: float | None = None
        self._away_s = 0.0
        self._counts = {"refused": 0, "lost": 0}
        self._parked = 0
        self._by_hand: list[str] = []
        self._error: Exception | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[TelegramEntrance]:
        """Take the platform's updates by long polling on a thread."""
        loops: queue_module.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = (
            queue_module.SimpleQueue()
        )

        async def poll() -> None:
            task = asyncio.current_task()
            assert task is not None
            loops.put((asyncio.get_running_loop(), task))
            try:
                await self._channel.poll(self)
            finally:
                await self._channel.close()

        def work() -> None:
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    asyncio.run(poll())
            except Exception as error:  # noqa: BLE001 - raised in the thread that plays
                self._error = error

        quiet = logging.NullHandler()  # that the platform is away is shown as news
        log = logging.getLogger("assistant_queue.channels")
        log.addHandler(quiet)
        thread = threading.Thread(target=work, name="demo-telegram", daemon=True)
        thread.start()
        loop, task = loops.get()
        try:
            yield self
        finally:
            log.removeHandler(quiet)
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(task.cancel)
            thread.join()

    # --- the queue that the channel fills -----------------------------------------------------

    def add_message_to_thread(self, thread_id: str, message: Any, **more: Any) -> Receipt:
        """Add a message, and keep its receipt for the board."""
        receipt = self._queue.add_message_to_thread(thread_id, message, **more)
        if not receipt.duplicate:
            self._receipts.put(receipt)
        return receipt

    # --- people -----------------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """Whether an update has not been taken yet."""
        if self._error is not None:
            raise self._error
        return bool(self._said)

    def say(self, line: Line) -> None:
        """Have a person write."""
        at = time.time()
        number = self._platform.say(_chat_of(line.thread), line.text, name=line.author or "Ann")
        self._said[f"{line.thread}:{number}"] = (line, at)

    def accepted(self) -> list[BoardMessage]:
        """Return the messages that were taken since the last call."""
        found = []
        with contextlib.suppress(queue_module.Empty):
            while True:
                receipt = self._receipts.get_nowait()
                line, at = self._said.pop(receipt.message_id)
                found.append(BoardMessage(line=line, receipt=receipt, at=at))
        return found

    # --- what goes wrong ------------------------------------------------------------------------

    def news(self, share: float) -> list[str]:
        """Let the platform misbehave when it is time; return what it does."""
        notes = []
        if self._gone_at is not None and time.monotonic() - self._gone_at >= AWAY_S:
            self._away_s += time.monotonic() - self._gone_at
            self._gone_at = None
            self._platform.come_back()
            notes.append("is back")
        while self._gone_at is None and self._plan and self._plan[0][0] <= share:
            notes.append(self._plan.popleft()[1]())
        return notes

    def _refuse(self) -> str:
        self._fault(TOO_MANY_REQUESTS, "refused", REFUSED, lambda one: "Message" in one.path)
        return f"refuses {REFUSED} requests (429, retry after 1 s)"

    def _lose(self, method: str) -> str:
        def is_whole(request: PlatformRequest) -> bool:
            text = str((request.body or {}).get("text", ""))
            is_text = request.path.endswith(f"/{method}") and not text.endswith(UNFINISHED)
            return is_text and len(text) < _SHORT

        for accept in (True, False):
            self._fault(LoseAnswer(accept=accept), "lost", 1, is_whole)
        return f"loses {LOST} answers to {method}: one after the work, one before"

    def _go_away(self) -> str:
        self._gone_at = time.monotonic()
        self._platform.go_away()
        return f"is away for {AWAY_S:g} s"

    def _fault(
        self,
        action: AnswerWith | LoseAnswer,
        what: str,
        times: int,
        when: Callable[[PlatformRequest], bool],
    ) -> None:
        def counted(request: PlatformRequest) -> bool:
            happens = when(request)
            self._counts[what] += happens
            return happens

        self._platform.fault(action, times=times, when=counted)

    # --- what the screens show ------------------------------------------------------------------

    def settle(self, batch: FailedBatch) -> tuple[BoardAnswer | None, str] | None:
        """Look at the screen: deliver a reply that is not there again, without the model."""
        if batch.reason != "delivery_unknown":
            return None
        status = self._queue.get_message(batch.message_ids[-1])
        if status is None or status.reply is None:
            return None
        self._parked += 1
        parts = self._parts(batch.thread_id, status.reply)
        if any(part not in self._shown(batch.thread_id) for part in parts):
            self._by_hand += parts
            self._queue.retry_failed(batch.batch_id)
            return None, "parked: not on the screen, so it is delivered again by hand"
        self._queue.discard_failed(batch.batch_id)
        claimed_at = status.timeline.claimed_at
        answer = BoardAnswer(
            thread=batch.thread_id,
            batch_id=batch.batch_id,
            run_id=status.run_id or "",
            message_ids=batch.message_ids,
            reply=status.reply,
            attempts=status.attempts,
            claimed_at=0.0 if claimed_at is None else claimed_at.timestamp(),
            at=time.time(),
        )
        return answer, "parked: but on the screen, so it is taken off the failed list by hand"

    def judge(self, board: Board, replies: Mapping[str, Sequence[str]]) -> ScreensVerdict:
        """Compare the screens with the model's replies."""
        return judge_screens(
            {
                thread: [self._parts(thread, reply) for reply in replies.get(thread, ())]
                for thread in board.rows
            },
            {thread: self._shown(thread) for thread in board.rows},
            by_hand=self._by_hand,
            parked=self._parked,
            refused=self._counts["refused"],
            answers_lost=self._counts["lost"],
            away_s=self._away_s,
        )

    def _parts(self, thread: str, reply: str) -> list[str]:
        mentions = not self._channel.address_of(thread).startswith("-")
        return [render(part, mentions=mentions).text for part in self._channel.split(reply)]

    def _shown(self, thread: str) -> list[str]:
        return self._platform.chat(_chat_of(thread)).shown


def _chat_of(thread: str) -> int:
    return int(thread.partition(":")[2])


@contextlib.contextmanager
def fake_telegram(scene: Scene) -> Iterator[StandInTelegram]:
    """Run the fake with the chats of a scene."""
    with StandInTelegram() as platform:
        for thread in scene.threads:
            platform.chat(_chat_of(thread))
        yield platform


def variables_of(platform: StandInTelegram) -> dict[str, str]:
    """Return what a worker's bot needs to deliver to the fake."""
    return {"DEMO_TELEGRAM_TOKEN": platform.token, "DEMO_TELEGRAM_URL": platform.url}
