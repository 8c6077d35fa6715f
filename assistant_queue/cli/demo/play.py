"""Play a scene: start all processes, send the messages on time, read the replies, judge."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import redis

from assistant_queue.cli.demo.board import Board, BoardAnswer
from assistant_queue.cli.demo.entrance import Entrance
from assistant_queue.cli.demo.outbox import Outbox
from assistant_queue.cli.demo.redis_server import private_redis
from assistant_queue.cli.demo.scene import Scene
from assistant_queue.cli.demo.stand_in import DemoProvider, Protocol, stand_in_service
from assistant_queue.cli.demo.tools import TOOLS
from assistant_queue.cli.demo.verdict import DemoVerdict, judge, replies_of
from assistant_queue.cli.demo.view import View
from assistant_queue.cli.demo.worker_processes import worker_fleet
from assistant_queue.cli.exit_errors import Problem
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.clock import SystemClock
from assistant_queue.models import FailedBatch
from assistant_queue.store.calls import Namespace

PREFIX = "demo"
WINDOW_S = 1.5
"""The demo's window. Chosen: long enough to gather a burst, short enough to watch."""
MAX_BATCH = 25
"""Messages of one run. Chosen: below what either protocol takes in one request, so that none has to
be joined with another."""
LOOK_S = 0.12
"""Seconds between two looks at the threads; most of them in one look."""
MOST_LOOKS = 40
PATIENCE_S = 60.0
"""Seconds without any change after which the demo gives up. Chosen: many times what anything in it
takes."""
LIVE_PATIENCE_S = 300.0


def run_demo(
    scene: Scene,
    view: View,
    *,
    speed: float,
    workers: int,
    protocol: Protocol,
    service: DemoProvider | None,
    window_s: float = WINDOW_S,
    on_platform: bool = False,
) -> DemoVerdict:
    """Play the scene and judge it; all processes are ended in any case.

    With `on_platform`, its threads are chats of a fake Telegram, which misbehaves in between.

    Raises:
        Problem: Something did not start, all workers died, or it was interrupted.
    """
    board = Board(stories=scene.stories)
    try:
        with _interruptible(), contextlib.ExitStack() as stack:
            url, redis_kind = stack.enter_context(private_redis())
            chosen = service or stack.enter_context(stand_in_service(scene, protocol))
            parts = [redis_kind, chosen.name]
            variables = {**_variables(url), **chosen.variables}
            platform = None
            if on_platform:
                from assistant_queue.cli.demo.telegram_entrance import fake_telegram, variables_of

                platform = stack.enter_context(fake_telegram(scene))
                parts.append("a fake Telegram")
                variables |= variables_of(platform)
            view.announce(
                scene.title, [*parts, f"{workers} worker processes", f"window {window_s:g} s"]
            )
            processes = stack.enter_context(worker_fleet(workers, variables)).workers
            stack.callback(_deaf)  # from here on no signal interrupts the clean-up
            queue = stack.enter_context(_producer(url, chosen, window_s))
            entrance = Entrance(queue)
            if platform is not None:
                from assistant_queue.cli.demo.telegram_entrance import TelegramEntrance

                entrance = stack.enter_context(TelegramEntrance(platform, queue).running())
            outbox = stack.enter_context(Outbox(url))
            stack.enter_context(view)

            def check_workers() -> None:
                if all(worker.process.poll() is not None for worker in processes):
                    raise Problem(f"all workers have died: {processes[0].last_words()}")

            patience_s = window_s + (PATIENCE_S if chosen.stand_in else LIVE_PATIENCE_S)
            player = Player(
                scene, board, queue, view, entrance=entrance, outbox=outbox, speed=speed
            )
            player.play(patience_s, check_workers)
            board.conversations.update(_conversations(url, board))
            screens = entrance.judge(board, replies_of(board, chosen.stand_in))
        return judge(board, chosen.stand_in, screens)
    except KeyboardInterrupt:
        done = len(board.sent) - len(board.open)
        raise Problem(
            f"interrupted when {done} of {len(scene.lines)} messages were answered; all that was started has been stopped"
        ) from None


def _variables(url: str) -> dict[str, str]:
    return {
        "REDIS_URL": url,
        "ASSISTANT_QUEUE_DEMO": "1",
        "ASSISTANT_QUEUE_QUEUE_PREFIX": PREFIX,
        "ASSISTANT_QUEUE_MAX_BATCH_SIZE": str(MAX_BATCH),
        "ASSISTANT_QUEUE_CONCURRENCY": "50",
        "ASSISTANT_QUEUE_BACKOFF": json.dumps({"type": "exponential", "delay": 1}),
    }


def _producer(url: str, service: DemoProvider, window_s: float) -> AssistantMessageQueue:
    """Return the queue of a web process, with all options set, so that no environment variable is."""
    return AssistantMessageQueue(
        redis_url=url,
        queue_prefix=PREFIX,
        message_delay=window_s,
        window="fixed",
        max_wait=None,
        max_batch_size=MAX_BATCH,
        after_run="immediate",
        max_pending=None,
        model=service.variables.get("ASSISTANT_QUEUE_MODEL"),
        assistant_id=service.variables.get("OPENAI_ASSISTANT_ID"),
        tools=TOOLS,
    )


def _conversations(url: str, board: Board) -> dict[str, str]:
    """Map threads to the provider's conversations."""
    keys = Namespace(PREFIX, SystemClock()).keys
    with redis.Redis.from_url(url, decode_responses=True) as client:
        found = {thread: client.hget(keys.conversation(thread), "id") for thread in board.rows}
    return {
        thread: str(conversation)
        for thread, conversation in found.items()
        if conversation is not None
    }


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, with the clean-up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _deaf() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


class Player:
    """Sends the lines on time and updates the board until every message is settled."""

    def __init__(
        self,
        scene: Scene,
        board: Board,
        queue: AssistantMessageQueue,
        view: View,
        *,
        entrance: Entrance,
        outbox: Outbox,
        speed: float,
    ) -> None:
        self._lines = deque(scene.lines)
        self._length_s = max(scene.lines[-1].at / speed, 0.001)
        self._entrance = entrance
        self._early: list[BoardAnswer] = []  # their messages are not on the board yet
        self._board = board
        self._queue = queue
        self._outbox = outbox
        self._view = view
        self._speed = speed
        self._started = 0.0
        self._looked = 0.0

    def play(self, patience_s: float, check_workers: Callable[[], None]) -> None:
        """Play to the end, or until nothing has changed for `patience_s` seconds.

        Raises as `check_workers` does.
        """
        board = self._board
        self._started = time.monotonic()
        changes = -1
        changed_at = self._started
        while self._lines or self._entrance.is_waiting or board.open:
            self._send_due()
            self._accept()
            self._hear()
            self._look()
            self._view.refresh(board, self._elapsed())
            if changes != board.changes or not (board.open or self._entrance.is_waiting):
                changes = board.changes
                changed_at = time.monotonic()
            elif time.monotonic() - changed_at > patience_s:
                break
            check_workers()
        self._view.refresh(board, self._elapsed(), last=True)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _send_due(self) -> None:
        while self._lines and self._lines[0].at / self._speed <= self._elapsed():
            line = self._lines.popleft()
            self._entrance.say(line)
            self._view.message(self._elapsed(), line)
        for news in self._entrance.news(self._elapsed() / self._length_s):
            self._view.note(self._elapsed(), "platform", news)

    def _accept(self) -> None:
        """Note what the queue has accepted, and the answers that were heard before it."""
        for sent in self._entrance.accepted():
            self._board.add(sent)
        early = self._early
        self._early = []
        for answer in early:
            self._answer(answer)

    def _answer(self, answer: BoardAnswer) -> None:
        if not self._board.sent.keys() >= set(answer.message_ids):
            self._early.append(answer)
        elif self._board.answer(answer):
            self._view.answer(self._elapsed(), answer)

    def _hear(self) -> None:
        """Read the bot's replies until the next message or check is due."""
        next_line = self._lines[0].at / self._speed - self._elapsed() if self._lines else LOOK_S
        for said in self._outbox.hear(min(max(next_line, 0.001), LOOK_S)):
            if said["kind"] == "tool":
                self._view.note(
                    self._elapsed(),
                    said["thread"],
                    f"tool {said['name']}(#{said['asked']}) -> {said['answer']}",
                )
                continue
            self._answer(BoardAnswer.load(said))

    def _look(self) -> None:
        """Read the threads' statuses from the queue."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        for thread in self._board.threads_to_look_at(MOST_LOOKS):
            was = self._board.row(thread).state
            word = self._board.see(self._queue.get_thread_status(thread))
            if word != was and word in {"trying again", "asking"}:
                self._view.note(self._elapsed(), thread, f"{word}: {self._why(thread)}")
        status = self._queue.get_queue_status()
        if status.failed_count + status.undelivered_count > len(self._board.failed):
            for batch in self._queue.list_failed(1000):
                self._settle(batch)

    def _settle(self, batch: FailedBatch) -> None:
        if batch.batch_id in self._board.failed:
            return
        settled = self._entrance.settle(batch)
        if settled is None:
            self._board.fail(batch)
            note = f"failed for good: {batch.error.message}"
        else:
            answer, note = settled
            if answer is not None:
                self._answer(answer)
        self._view.note(self._elapsed(), batch.thread_id, note)

    def _why(self, thread: str) -> str:
        oldest = next(
            (
                key
                for key, sent in self._board.sent.items()
                if sent.line.thread == thread and key in self._board.open
            ),
            None,
        )
        status = self._queue.get_message(oldest) if oldest is not None else None
        return (
            status.error.message
            if status is not None and status.error is not None
            else "its first attempt failed"
        )
