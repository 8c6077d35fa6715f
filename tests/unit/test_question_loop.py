"""The loop that asks questions: what it does when Redis refuses, and how many it asks at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from assistant_queue.errors import StoreUnavailable
from assistant_queue.store.ops.questions import DueQuestion, DueQuestions
from assistant_queue.worker import channel_questions, question_loop
from assistant_queue.worker.channel_questions import ChannelQuestions
from assistant_queue.worker.question_loop import QuestionLoop

DUE = tuple(DueQuestion(call_id=f"c{n}", thread_id="chat:1", at="1") for n in range(9))


class Questions(ChannelQuestions):
    """Questions that are due until they were asked without an error."""

    def __init__(self, error: Exception | None = None) -> None:
        channel = SimpleNamespace(asks=True, name="chat")
        config = SimpleNamespace(channels=[channel], queue_prefix="q")
        super().__init__(SimpleNamespace(config=config))  # type: ignore[arg-type]
        self.error = error
        self.looks = 0
        self.handled: list[str] = []
        self.gate = asyncio.Event()

    async def find(self, offset: int = 0) -> DueQuestions:
        self.looks += 1
        is_left = self.error is not None
        left = tuple(due for due in DUE if is_left or due.call_id not in self.handled)
        return DueQuestions(due=left)

    async def handle(self, due: DueQuestion) -> None:
        self.handled.append(due.call_id)
        if self.error is not None:
            raise self.error
        await self.gate.wait()


def loop_of(questions: Questions) -> QuestionLoop:
    outage = SimpleNamespace(passed=lambda _: None, failed=lambda *_: None)
    runtime: Any = SimpleNamespace(questions=questions, config=None, outage=outage)
    return QuestionLoop([runtime])


async def turns() -> None:
    """Let everything run that waits for nothing: what is at work then waits for the test."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("error", [StoreUnavailable("full"), RuntimeError("a bug")])
async def test_a_question_that_cannot_be_taken_is_not_taken_again_at_once(error: Exception) -> None:
    questions = Questions(error)
    loop = loop_of(questions)
    loop.start()
    await turns()
    await loop.drain(0)
    assert questions.handled == [due.call_id for due in DUE[: question_loop._AT_ONCE]]
    assert questions.looks <= 2
    assert channel_questions._AWAY_S > 0


async def test_few_questions_are_asked_at_once_and_one_that_ends_lets_another_begin() -> None:
    questions = Questions()
    loop = loop_of(questions)
    loop.start()
    await turns()
    assert loop.running == len(questions.handled) == question_loop._AT_ONCE
    questions.gate.set()
    await turns()
    assert set(questions.handled) == {due.call_id for due in DUE}
    await loop.drain(0)
    assert loop.running == 0
