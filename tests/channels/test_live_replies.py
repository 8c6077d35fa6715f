"""Typing and streamed replies on the screen, and what replaces them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from assistant_queue.channels import Telegram, live_replies
from assistant_queue.channels.chat_pacer import _ALL
from assistant_queue.channels.live_replies import LiveReply
from assistant_queue.errors import DeliveryUnknown, RetryLater
from assistant_queue.testing.channels import (
    AnswerWith,
    DeliveryCrash,
    LoseAnswer,
    MemoryProgress,
    StandInTelegram,
)
from assistant_queue.testing.channels.conformance import result_of
from tests.channels.rigs import hurried

GROUP = -1001
HALF = "The first half of a reply"
WHOLE = "The first half of a reply, and the second"


@pytest.fixture
def platform() -> Iterator[StandInTelegram]:
    with StandInTelegram() as running:
        running.chat(5)
        running.chat(GROUP)
        yield running


@pytest.fixture
async def channel(platform: StandInTelegram) -> AsyncIterator[Telegram]:
    one = hurried(Telegram(platform.token, api_url=platform.url))
    yield one
    await one.close()


async def seen(platform: StandInTelegram, what: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(platform.wait_for, what)


def live_in(channel: Telegram, chat_id: int = 5) -> LiveReply:
    live = LiveReply(channel, f"telegram:{chat_id}", "b1")
    live.start()
    live.begin(is_round=False)
    return live


async def half_shown(platform: StandInTelegram, channel: Telegram) -> LiveReply:
    """Return a reply whose first half is on the screen."""
    live = live_in(channel)
    live.add(HALF)
    await seen(platform, lambda: platform.chat(5).shown)
    return live


async def test_typing_is_refreshed(platform: StandInTelegram, channel: Telegram) -> None:
    channel.limits = replace(channel.limits, typing_interval=0.01)
    live = live_in(channel)
    await seen(platform, lambda: platform.chat(5).typing >= 3)
    await live.close(is_answered=True)


async def test_the_final_text_replaces_the_preview(
    platform: StandInTelegram, channel: Telegram
) -> None:
    live = await half_shown(platform, channel)
    await live.close(is_answered=True)
    assert platform.chat(5).shown == [f"{HALF} …"]
    progress = MemoryProgress()
    await channel.deliver(result_of(channel, "5", WHOLE), progress)
    assert platform.chat(5).shown == [WHOLE]
    assert progress.part_ids == (str(next(iter(platform.chat(5).messages))),)


async def test_a_preview_grows(platform: StandInTelegram, channel: Telegram) -> None:
    live = await half_shown(platform, channel)
    live.add(", and the second")
    await seen(platform, lambda: platform.chat(5).shown == [f"{WHOLE} …"])
    await live.close(is_answered=True)


async def test_a_preview_is_within_the_limit(platform: StandInTelegram, channel: Telegram) -> None:
    live = live_in(channel)
    live.add("word " * 2000)
    await seen(platform, lambda: platform.chat(5).shown)
    await live.close(is_answered=True)
    (shown,) = platform.chat(5).shown
    assert len(shown) > 3000
    await channel.deliver(result_of(channel, "5", "word " * 2000), MemoryProgress())
    assert " ".join(platform.chat(5).shown).split() == ["word"] * 2000


async def test_a_preview_does_not_shrink_when_the_text_outgrows_it(
    platform: StandInTelegram, channel: Telegram
) -> None:
    live = live_in(channel)
    live.add("A short paragraph of words.\n\n" + "word " * 700)
    await seen(platform, lambda: platform.chat(5).shown)
    live.add("word " * 300)
    await seen(platform, lambda: len(platform.chat(5).shown[0]) > 4000)
    live.add("more " * 300)
    await live.close(is_answered=True)
    (message,) = platform.chat(5).messages.values()
    assert [len(text) for text in message.versions] == sorted(map(len, message.versions))
    assert message.text.endswith("word …")


async def test_a_failed_attempt_is_taken_back(platform: StandInTelegram, channel: Telegram) -> None:
    live = await half_shown(platform, channel)
    live.take_back()
    await seen(platform, lambda: platform.chat(5).shown == ["…"])
    live.begin(is_round=False)
    live.add("Another reply, that is right")
    await seen(platform, lambda: platform.chat(5).shown == ["Another reply, that is right …"])
    await live.close(is_answered=False)
    assert platform.chat(5).shown == [], "no reply: nothing stays"


async def test_a_preview_with_an_unknown_outcome_is_the_last_one(
    platform: StandInTelegram, channel: Telegram
) -> None:
    platform.fault(LoseAnswer(accept=True), of="sendMessage")
    live = await half_shown(platform, channel)
    live.add(", and more of it")
    await asyncio.wait(live._tasks[-1:], timeout=30)  # the stream has ended by itself
    await live.close(is_answered=True)
    assert len([one for one in platform.requests if "sendMessage" in one.path]) == 1


async def test_flood_control_of_a_preview_waits(
    platform: StandInTelegram, channel: Telegram
) -> None:
    refused = {"ok": False, "error_code": 429, "parameters": {"retry_after": 0}}
    platform.fault(AnswerWith(429, refused), of="sendMessage", times=2)
    live = await half_shown(platform, channel)
    await live.close(is_answered=True)


async def test_an_edit_on_its_way_does_not_arrive_after_the_reply(
    platform: StandInTelegram, channel: Telegram
) -> None:
    live = live_in(channel)
    live.add(HALF)
    await seen(platform, lambda: platform.requests)
    live.close_soon(is_answered=True)  # the first preview has no answer yet, perhaps
    await channel.deliver(result_of(channel, "5", WHOLE), MemoryProgress())
    assert platform.chat(5).shown == [WHOLE]


async def test_a_preview_that_was_deleted_is_sent_anew(
    platform: StandInTelegram, channel: Telegram
) -> None:
    live = await half_shown(platform, channel)
    await live.close(is_answered=True)
    platform.chat(5).messages.clear()
    await channel.deliver(result_of(channel, "5", WHOLE), MemoryProgress())
    assert platform.chat(5).shown == [WHOLE]


async def test_a_reply_without_a_text_takes_its_preview_back(
    platform: StandInTelegram, channel: Telegram
) -> None:
    live = await half_shown(platform, channel)
    await live.close(is_answered=True)
    await channel.deliver(result_of(channel, "5", None), MemoryProgress())
    assert platform.chat(5).shown == []


async def test_a_worker_that_ends_waits_for_the_removal_of_a_preview(
    platform: StandInTelegram, channel: Telegram
) -> None:
    live = await half_shown(platform, channel)
    live.close_soon(is_answered=False)
    await channel.previews.closed()
    assert platform.chat(5).shown == []
    await channel.previews.closed()


async def test_drafts_leave_nothing_behind(platform: StandInTelegram) -> None:
    channel = hurried(Telegram(platform.token, api_url=platform.url, stream="draft"))
    live = live_in(channel)
    live.add(HALF)
    await seen(platform, lambda: platform.chat(5).drafts)
    await live.close(is_answered=True)
    assert platform.chat(5).shown == []
    drafts = [one.body for one in platform.requests if "Draft" in one.path]
    assert len({body["draft_id"] for body in drafts}) == 1
    await channel.close()


async def test_a_draft_is_shown_again_before_it_vanishes(
    platform: StandInTelegram, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = hurried(Telegram(platform.token, api_url=platform.url, stream="draft"))
    assert channel.preview_lasts("5") == 20, "Telegram shows one for 30 s"
    assert channel.preview_lasts(str(GROUP)) is None, "there it is a message"
    monkeypatch.setattr(channel, "_draft_lasts_s", 0.01)
    live = live_in(channel)
    live.add(HALF)
    chat = platform.chat(5)
    await seen(platform, lambda: chat.drafts == 3 * [f"{HALF} …"])
    assert chat.draft == f"{HALF} …"
    await live.close(is_answered=True)
    await channel.deliver(result_of(channel, "5", WHOLE), MemoryProgress())
    assert chat.draft is None, "the reply has taken its place"
    await channel.close()


async def test_off_shows_typing_only(platform: StandInTelegram) -> None:
    channel = hurried(Telegram(platform.token, api_url=platform.url, stream="off"))
    live = live_in(channel)
    live.add(HALF)
    await seen(platform, lambda: platform.chat(5).typing)
    await live.close(is_answered=True)
    assert platform.chat(5).shown == []
    await channel.close()


async def test_a_platform_that_is_down_does_not_stop_the_run(
    platform: StandInTelegram, channel: Telegram
) -> None:
    platform.stop()
    live = live_in(channel)
    live.add(HALF)
    live.take_back()
    await live.close(is_answered=False)


async def test_nothing_is_shown_above_an_earlier_reply(
    platform: StandInTelegram, channel: Telegram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_replies, "_TURN_S", 0.001)
    asked = asyncio.Event()
    waiting = [True, True, False]

    async def waits() -> bool:
        asked.set()
        return waiting.pop(0)

    live = LiveReply(channel, "telegram:5", "b1", waits)
    live.start()
    live.begin(is_round=False)
    live.add(HALF)
    await asyncio.wait_for(asked.wait(), 30)
    assert platform.chat(5).shown == []
    await seen(platform, lambda: platform.chat(5).shown)
    assert waiting == []
    live.add(", and the second")
    await seen(platform, lambda: platform.chat(5).shown == [f"{WHOLE} …"])
    await live.close(is_answered=True)


async def test_whole_replies_of_any_chat_go_before_a_preview(
    platform: StandInTelegram, channel: Telegram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_replies, "_TURN_S", 0.001)
    channel.limits = replace(channel.limits, total_interval=1.0)
    await channel.deliver(result_of(channel, str(GROUP), WHOLE), MemoryProgress())
    assert not channel.pacer.is_free
    after_reply = channel.pacer._free_at[_ALL]
    live = await half_shown(platform, channel)
    assert channel.pacer._free_at[_ALL] > after_reply + 1.0, "asked for its turn when it was free"
    await live.close(is_answered=False)


# --- the reply is delivered by another process ----------------------------------------------------


async def other_process(platform: StandInTelegram) -> Telegram:
    return hurried(Telegram(platform.token, api_url=platform.url))


async def preview_answered(live: LiveReply) -> None:
    assert live._request is not None
    await asyncio.wait({live._request})


async def test_another_process_replaces_the_preview(
    platform: StandInTelegram, channel: Telegram
) -> None:
    live = await half_shown(platform, channel)
    await preview_answered(live)
    progress = MemoryProgress()
    progress.preview = live.hand_over()
    live.add(", and the second")
    await live.close(is_answered=True)
    other = await other_process(platform)
    await other.deliver(result_of(other, "5", WHOLE), progress)
    assert platform.chat(5).shown == [WHOLE]
    await other.close()


async def test_a_preview_with_an_edit_on_its_way_is_not_handed_over(
    platform: StandInTelegram, channel: Telegram
) -> None:
    live = await half_shown(platform, channel)
    await preview_answered(live)
    assert live.hand_over() is not None
    live._request = asyncio.get_running_loop().create_task(live._show(f"{HALF} more"))
    assert live.hand_over() is None
    await live.close(is_answered=True)


@pytest.mark.parametrize("point", ["sending", "sent"])
async def test_a_crash_while_the_preview_is_replaced_is_repaired(
    platform: StandInTelegram, channel: Telegram, point: str
) -> None:
    live = await half_shown(platform, channel)
    await live.close(is_answered=True)

    def die(where: str, _: int) -> None:
        if where == point:
            raise DeliveryCrash

    progress = MemoryProgress(die)
    progress.preview = live.hand_over()
    with pytest.raises(DeliveryCrash):
        await channel.deliver(result_of(channel, "5", WHOLE), progress)
    progress.at = None
    other = await other_process(platform)
    await other.deliver(result_of(other, "5", WHOLE), progress)
    assert platform.chat(5).shown == [WHOLE]
    await other.close()


async def test_a_preview_that_is_gone_says_nothing_about_a_part_that_was_begun(
    platform: StandInTelegram, channel: Telegram
) -> None:
    progress = MemoryProgress()
    progress.preview = "99"
    await progress.sending(0, 1)
    with pytest.raises(DeliveryUnknown):
        await channel.deliver(result_of(channel, "5", WHOLE), progress)
    assert platform.chat(5).shown == []


async def test_a_part_that_was_begun_waits_until_the_preview_can_be_edited(
    platform: StandInTelegram, channel: Telegram
) -> None:
    progress = MemoryProgress()
    progress.preview = "99"
    await progress.sending(0, 1)
    refused = {"ok": False, "error_code": 429, "parameters": {"retry_after": 7}}
    platform.fault(AnswerWith(429, refused), of="editMessageText")
    with pytest.raises(RetryLater) as refusal:
        await channel.deliver(result_of(channel, "5", WHOLE), progress)
    assert refusal.value.after_s == 7
    assert progress.uncertain_part == 0
