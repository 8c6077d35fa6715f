"""Messages that are more than text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from tests.conftest import RedisServer
from tests.integration.test_crash_points import Bot

PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/parcel.png"}}


@pytest.fixture
def bot(
    request: pytest.FixtureRequest, one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> Iterator[Any]:
    made: list[AssistantMessageQueue] = []

    def make(protocol: str, **options: Any) -> Bot:
        bot = Bot(one_redis.url, prefix, provider, protocol, **options)
        made.append(bot.queue)
        return bot

    yield make
    for queue in made:
        queue.close()


@pytest.mark.parametrize("protocol", ["responses", "assistants", "chat_completions"])
def test_a_picture_and_its_caption_reach_the_model_in_one_run(
    bot: Any, provider: StandInProvider, protocol: str
) -> None:
    asking = bot(protocol)
    asking.queue.add_message_to_thread("t", "my parcel is broken")
    asking.queue.add_message_to_thread("t", [{"type": "text", "text": "look"}, PICTURE])
    asking.work()
    (run,) = provider.runs
    assert run.user_texts == ("my parcel is broken", "look")
    told = (
        provider.requests[-1].body["messages"]
        if protocol == "chat_completions"
        else provider.items(run.conversation_id)
    )
    items = [item for item in told if item.get("role") == "user"]
    assert "parcel.png" in str(items[1])


def test_a_caption_waits_for_its_picture_and_no_longer(bot: Any) -> None:
    asking = bot("responses", attachment_wait=30)
    clock = asking.clock
    caption = asking.queue.add_message_to_thread("t", "look at this")
    assert caption.due_at.timestamp() == clock.ms / 1000 + 30
    clock.advance(2)
    picture = asking.queue.add_message_to_thread("t", [PICTURE])
    assert (
        picture.due_at.timestamp() == clock.ms / 1000 + 3
    )  # the window of message_delay, from the first message
    clock.advance(1)
    thanks = asking.queue.add_message_to_thread("t", "thanks")
    assert (
        thanks.due_at == picture.due_at
    )  # what follows the picture does not open the window again


def test_a_late_picture_ends_the_window_of_its_caption_at_once(bot: Any) -> None:
    asking = bot("responses", attachment_wait=30)
    asking.queue.add_message_to_thread("t", "look at this")
    asking.clock.advance(20)
    picture = asking.queue.add_message_to_thread("t", [PICTURE])
    assert picture.due_at.timestamp() == asking.clock.ms / 1000
    asking.work()
    assert asking.queue.get_queue_status().completed_count == 2
