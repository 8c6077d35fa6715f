"""The Telegram channel against the strict fake, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from assistant_queue.channels import (
    Attachment,
    Part,
    PartNotSent,
    PartSent,
    PartUnknown,
    Telegram,
    telegram_polling,
)
from assistant_queue.errors import (
    ConfigurationError,
    InvalidArgument,
    InvalidPayload,
    MessageRefused,
    NotAuthenticated,
    Undeliverable,
)
from assistant_queue.testing.channels import (
    AnswerWith,
    MemoryProgress,
    StandInTelegram,
)
from assistant_queue.testing.channels.conformance import (
    AsyncRecordingQueue,
    RecordingQueue,
    result_of,
)
from tests.channels.rigs import SECRET_HEADER, hurried

GROUP = -1001


@pytest.fixture
def platform() -> Iterator[StandInTelegram]:
    with StandInTelegram() as running:
        yield running


@pytest.fixture
async def channel(platform: StandInTelegram) -> AsyncIterator[Telegram]:
    one = hurried(
        Telegram(
            platform.token, api_url=platform.url, secret_token="s3cret", username="stand_in_bot"
        )
    )
    yield one
    await one.close()


def part(text: str) -> Part:
    return Part(text=text, key="b1.0")


async def test_formatting_is_shown(platform: StandInTelegram, channel: Telegram) -> None:
    chat = platform.chat(5)
    assert isinstance(await channel.send("5", part("**Hi** 😀 there")), PartSent)
    (message,) = chat.messages.values()
    assert message.text.strip() == "Hi 😀 there"
    assert [one["type"] for one in message.entities] == ["bold"]


async def test_refused_formatting_is_sent_as_plain_text(
    platform: StandInTelegram, channel: Telegram
) -> None:
    platform.methods.refuses_entities = True
    chat = platform.chat(5)
    sent = await channel.send("5", part("**Hi** there"))
    assert sent == PartSent(str(next(iter(chat.messages))))
    assert chat.shown == ["**Hi** there"]


async def test_names_in_groups_do_not_notify(platform: StandInTelegram, channel: Telegram) -> None:
    group = platform.chat(GROUP)
    await channel.send(str(GROUP), part("hello @everyone"))
    assert group.shown == ["hello @\u2060everyone"]


async def test_a_topic_is_part_of_the_address(platform: StandInTelegram, channel: Telegram) -> None:
    platform.chat(GROUP).topics.add(9)
    await channel.send(f"{GROUP}/9", part("in the topic"))
    assert [one.topic for one in platform.chat(GROUP).messages.values()] == [9]
    gone = await channel.send(f"{GROUP}/8", part("nowhere"))
    assert isinstance(gone, PartNotSent)
    assert gone.final


async def test_a_group_that_moved_is_followed(platform: StandInTelegram, channel: Telegram) -> None:
    platform.chat(-55, "group")
    platform.migrate(-55, -1007)
    assert isinstance(await channel.send("-55", part("one")), PartSent)
    assert isinstance(await channel.send("-55", part("two")), PartSent)
    assert platform.chat(-1007).shown == ["one", "two"]
    refused = [one for one in platform.requests if one.body and one.body.get("chat_id") == -55]
    assert len(refused) == 1, "the new id is remembered"


async def test_the_reply_in_a_group_answers_its_message(
    platform: StandInTelegram, channel: Telegram
) -> None:
    asked = platform.say(GROUP, "hello bot")
    result = result_of(channel, str(GROUP), "Hello")
    result = type(result)(
        **{name: getattr(result, name) for name in result.__slots__ if name != "message_ids"},
        message_ids=(f"telegram:{GROUP}:{asked}",),
    )
    await channel.deliver(result, MemoryProgress())
    answer = list(platform.chat(GROUP).messages.values())[-1]
    assert answer.reply_to == asked


@pytest.mark.parametrize(
    ("status", "kind"), [(500, PartUnknown), (502, PartUnknown), (401, PartNotSent)]
)
async def test_an_answer_that_says_nothing_is_unknown(
    platform: StandInTelegram, channel: Telegram, status: int, kind: type
) -> None:
    platform.chat(5)
    platform.fault(AnswerWith(status, {"ok": False, "description": "x"}), of="sendMessage")
    outcome = await channel.send("5", part("Hi"))
    assert type(outcome) is kind
    assert getattr(outcome, "final", False) is False


async def test_a_platform_that_is_down_has_not_taken_it(
    platform: StandInTelegram, channel: Telegram
) -> None:
    platform.stop()
    outcome = await channel.send("5", part("Hi"))
    assert outcome == PartNotSent("not reached (ConnectError)")


async def test_a_blocked_bot_is_final(platform: StandInTelegram, channel: Telegram) -> None:
    platform.chat(5)
    platform.block(5)
    with pytest.raises(Undeliverable, match="bot was blocked by the user"):
        await channel.deliver(result_of(channel, "5", "Hi"), MemoryProgress())
    with pytest.raises(Undeliverable, match="chat not found"):
        await channel.deliver(result_of(channel, "6", "Hi"), MemoryProgress())


async def test_flood_control_asks_to_wait(platform: StandInTelegram, channel: Telegram) -> None:
    platform.methods.flood_interval_s = 30.0
    platform.chat(5)
    platform.chat(6)
    assert isinstance(await channel.send("5", part("one")), PartSent)
    refused = await channel.send("5", part("two"))
    assert isinstance(refused, PartNotSent)
    assert refused.retry_after == 30
    assert not refused.final
    assert isinstance(await channel.send("6", part("one")), PartSent)


async def test_a_platform_that_misbehaves_refuses_loses_and_recovers(
    platform: StandInTelegram, channel: Telegram
) -> None:
    platform.chat(5)
    platform.misbehave(1.0, seed=1, of="sendMessage")
    found = [await channel.send(str(chat), part("hi")) for chat in range(5, 25)]
    assert {type(one) for one in found} == {PartNotSent, PartUnknown}
    assert 1.0 in {one.retry_after for one in found if isinstance(one, PartNotSent)}
    platform.misbehave(0)
    assert isinstance(await channel.send("5", part("hi")), PartSent)


async def test_drafts_are_for_private_chats(platform: StandInTelegram, channel: Telegram) -> None:
    assert isinstance(await _drafted(platform, channel, 5), PartSent)
    assert platform.chat(5).drafts == ["half a re"]
    assert isinstance(await _drafted(platform, channel, GROUP), PartNotSent)


async def _drafted(platform: StandInTelegram, channel: Telegram, chat_id: int) -> Any:
    platform.chat(chat_id)
    return await channel.draft(str(chat_id), part("half a re"))


# --- receiving ------------------------------------------------------------------------------------


def messages(channel: Telegram, update: dict[str, Any]) -> Any:
    return channel.messages_of(update)


async def test_what_a_message_says(platform: StandInTelegram, channel: Telegram) -> None:
    (message,) = messages(channel, platform.update_of(5, "Hi", name="Mia"))
    assert (message.address, message.text, message.author) == ("5", "Hi", "Mia")
    assert message.metadata["telegram_user_id"].isdigit()
    assert not message.is_group


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"location": {"latitude": 52.5, "longitude": 13.4}}, "[location: 52.5, 13.4]"),
        (
            {
                "venue": {"title": "Café", "address": "Main St 1", "location": {}},
                "location": {"latitude": 52.5, "longitude": 13.4},
            },
            "[venue: Café, Main St 1]",
        ),
        (
            {"contact": {"first_name": "Mia", "phone_number": "+49 1"}},
            "[contact: Mia, +49 1]",
        ),
        ({"poll": {"question": "Tea?"}}, "[poll: Tea?]"),
    ],
)
async def test_what_has_no_text_is_described(
    platform: StandInTelegram, channel: Telegram, given: dict[str, Any], text: str
) -> None:
    update = platform.update_of(5, "x")
    del update["message"]["text"]
    update["message"] |= given
    (message,) = messages(channel, update)
    assert message.text == text


async def test_a_round_video_is_a_video(platform: StandInTelegram, channel: Telegram) -> None:
    update = platform.update_of(5, "x")
    update["message"] |= {"video_note": {"file_id": "v1", "file_size": 3}}
    (message,) = messages(channel, update)
    assert message.attachments == (Attachment(kind="video", ref="v1", size=3),)


async def test_a_message_of_a_topic(platform: StandInTelegram, channel: Telegram) -> None:
    (message,) = messages(channel, platform.update_of(GROUP, "Hi", topic=4))
    assert message.address == f"{GROUP}/4"


async def test_groups_are_answered_when_they_address_the_bot(
    platform: StandInTelegram, channel: Telegram
) -> None:
    queue = RecordingQueue()
    headers = {SECRET_HEADER: "s3cret"}

    def taken(text: str, entities: Any = None, reply_to: int | None = None) -> bool:
        before = len(queue.messages)
        update = platform.update_of(GROUP, text, reply_to=reply_to)
        if entities:
            update["message"]["entities"] = entities
        channel.receive(queue, update, headers)
        assert len(queue.messages) == before + 1, "the others are kept"
        return queue.messages[-1][0] not in queue.quiet

    def mark(kind: str, offset: int, length: int) -> list[dict[str, Any]]:
        return [{"type": kind, "offset": offset, "length": length}]

    assert not taken("just talking")
    assert taken("😀 @Stand_In_Bot help", mark("mention", 3, 13))
    assert not taken("😀 @other_bot help", mark("mention", 3, 10))
    assert taken("/help", mark("bot_command", 0, 5))
    assert not taken("/help@other_bot", mark("bot_command", 0, 15))
    await channel.send(str(GROUP), part("I am here"))
    mine = list(platform.chat(GROUP).messages)[-1]
    assert taken("what?", reply_to=mine)
    channel.reply_when = "mentioned"
    assert not taken("what?", reply_to=mine)
    assert taken("@Stand_In_Bot what?", mark("mention", 0, 13))
    channel.reply_when = "replied_to"
    assert not taken("@Stand_In_Bot who?", mark("mention", 0, 13))
    assert taken("who?", reply_to=mine)
    channel.reply_when = "always"
    assert taken("just talking more")
    channel.reply_when = lambda message: "please" in message.text
    assert taken("help please")
    assert not taken("help")


async def test_a_rule_of_your_own_leaves_messages_out(
    platform: StandInTelegram, channel: Telegram
) -> None:
    queue = RecordingQueue()
    channel.reply_when = lambda message: True if message.is_addressed else None
    update = platform.update_of(GROUP, "just talking")
    done = channel.receive(queue, update, {SECRET_HEADER: "s3cret"})
    assert (queue.messages, len(done.ignored)) == ([], 1)


def test_a_group_rule_is_one_of_four_or_a_function(platform: StandInTelegram) -> None:
    with pytest.raises(InvalidArgument, match="reply_when"):
        Telegram(platform.token, reply_when="sometimes")  # type: ignore[arg-type]


async def test_files_stay_at_telegram_until_a_worker_reads_them(
    platform: StandInTelegram, channel: Telegram
) -> None:
    number = platform.say(5, "look", files={"photo": b"a picture"})
    update = platform.updates[-1]
    (message,) = messages(channel, update)
    assert message.text == "look"
    assert message.attachments == (
        Attachment(kind="photo", ref=f"photo-{number}", media_type="image/jpeg", size=9),
    )
    found = await channel.fetch(message.attachments[0])
    assert (found.data, found.media_type) == (b"a picture", "image/jpeg")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        await channel.fetch(Attachment(kind="voice", ref="gone"))


class HoldingQueue(RecordingQueue):
    """A queue that keeps the holds of messages, too."""

    def __init__(self) -> None:
        super().__init__()
        self.holds: list[float | None] = []

    def add_message_to_thread(self, *args: Any, **given: Any) -> Any:
        self.holds.append(given.get("hold"))
        return super().add_message_to_thread(*args, **given)


async def test_albums_and_voice_messages_hold_the_window(platform: StandInTelegram) -> None:
    def held(**given: Any) -> list[float | None]:
        queue = HoldingQueue()
        channel = Telegram(platform.token, api_url=platform.url, **given)
        channel.take(queue, [one for update in updates for one in channel.messages_of(update)])
        return queue.holds

    platform.say(5, "Hi!")
    platform.say(5, "look", files={"photo": b"x"}, album="7")
    platform.say(5, "", files={"voice": b"x"})
    updates = list(platform.updates)
    assert held() == [None, 2.0, None]
    assert held(album_hold=None, voice_hold=8) == [None, None, 8.0]


@pytest.mark.parametrize("name", ["album_hold", "voice_hold"])
@pytest.mark.parametrize("wrong", [-1, 61, "2", True, float("nan")])
def test_a_hold_is_a_number_of_seconds(platform: StandInTelegram, name: str, wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"Invalid {name} .* from 0 to 60"):
        Telegram(platform.token, **{name: wrong})


async def test_an_edit_replaces_a_waiting_message(
    platform: StandInTelegram, channel: Telegram
) -> None:
    queue = RecordingQueue()
    headers = {SECRET_HEADER: "s3cret"}
    number = platform.say(5, "Helo")
    original = platform.updates[-1]
    channel.receive(queue, original, headers)
    platform.edit(5, number, "Hello")
    edited = channel.receive(queue, platform.updates[-1], headers)
    assert edited.edited == (f"telegram:5:{number}",)
    assert [one[2] for one in queue.messages] == ["Hello"]
    again = channel.receive(queue, original, headers)
    assert again.ignored == (f"telegram:5:{number}",), "it was taken, and edited since"
    assert [one[2] for one in queue.messages] == ["Hello"]


async def test_an_edit_of_an_unknown_message_changes_nothing(
    platform: StandInTelegram, channel: Telegram
) -> None:
    number = platform.say(5, "old")
    platform.edit(5, number, "older than the bot")
    done = channel.receive(RecordingQueue(), platform.updates[-1], {SECRET_HEADER: "s3cret"})
    assert done.ignored == (f"telegram:5:{number}",)


async def test_a_validator_refuses_in_the_answer(
    platform: StandInTelegram, channel: Telegram
) -> None:
    class Strict(RecordingQueue):
        def add_message_to_thread(self, *_: Any, **__: Any) -> Any:
            raise MessageRefused("too long")

    update = platform.update_of(5, "x")
    done = channel.receive(Strict(), update, {SECRET_HEADER: "s3cret"})
    assert [reason for _, reason in done.refused] == ["too long"]


@pytest.mark.parametrize(
    "update",
    [
        {"update_id": True},
        {"update_id": 1, "message": []},
        {"update_id": 1, "message": {}},
        {"update_id": 1, "message": {"chat": {"id": "5"}, "message_id": 1}},
        {"update_id": 1, "message": {"chat": {"id": 5}, "message_id": 1, "text": 7}},
    ],
)
async def test_an_update_that_is_none_is_refused(channel: Telegram, update: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload):
        channel.receive(RecordingQueue(), update, {SECRET_HEADER: "s3cret"})


async def test_other_kinds_of_updates_are_passed_over(channel: Telegram) -> None:
    for update in ({"update_id": 1, "poll": {}}, {"update_id": 2, "my_chat_member": {"x": 1}}):
        done = channel.receive(RecordingQueue(), update, {SECRET_HEADER: "s3cret"})
        assert done.receipts == ()


async def test_the_secret_is_derived_from_the_token(platform: StandInTelegram) -> None:
    one, other = (Telegram(platform.token, api_url=platform.url) for _ in range(2))
    with pytest.raises(NotAuthenticated):
        one.receive(RecordingQueue(), {"update_id": 1}, {})
    await one.set_webhook("http://127.0.0.1:9/nowhere")
    (given,) = [r.body["secret_token"] for r in platform.requests if "setWebhook" in r.path]
    other.receive(RecordingQueue(), {"update_id": 1}, {SECRET_HEADER: given})
    await one.close()


# --- polling --------------------------------------------------------------------------------------


async def test_polling_takes_each_update_once(platform: StandInTelegram, channel: Telegram) -> None:
    queue = AsyncRecordingQueue()
    polling = asyncio.create_task(channel.poll(queue))
    first = await asyncio.to_thread(platform.say, 5, "one")
    second = await asyncio.to_thread(platform.say, 5, "two")
    await asyncio.to_thread(
        platform.wait_for, lambda: any(_confirms(one, platform) for one in platform.requests)
    )
    assert [one[0] for one in queue.messages] == [f"telegram:5:{first}", f"telegram:5:{second}"]
    polling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await polling


def _confirms(request: Any, platform: StandInTelegram) -> bool:
    body = request.body or {}
    return "getUpdates" in request.path and body.get("offset") == platform._next_update + 1


async def test_polling_waits_for_a_platform_that_is_away(
    platform: StandInTelegram, channel: Telegram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_polling, "_AWAY_S", 0.01)
    tried = asyncio.Event()
    call = channel.api.call

    async def noted(*args: Any, **more: Any) -> Any:
        try:
            return await call(*args, **more)
        finally:
            tried.set()

    monkeypatch.setattr(channel.api, "call", noted)
    platform.go_away()
    polling = asyncio.create_task(channel.poll(AsyncRecordingQueue()))
    await asyncio.wait_for(tried.wait(), 30)
    platform.come_back()
    await asyncio.to_thread(
        platform.wait_for, lambda: any("getUpdates" in one.path for one in platform.requests)
    )
    polling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await polling


async def test_a_wrong_token_and_a_webhook_end_polling(platform: StandInTelegram) -> None:
    wrong = Telegram("1:" + "x" * 30, api_url=platform.url)
    with pytest.raises(ConfigurationError, match="Unauthorized"):
        await wrong.poll(AsyncRecordingQueue())
    await wrong.close()
    right = Telegram(platform.token, api_url=platform.url)
    await right.set_webhook("http://127.0.0.1:9/nowhere")
    with pytest.raises(ConfigurationError, match="webhook"):
        await right.poll(AsyncRecordingQueue())
    await right.close()


# --- the fake -------------------------------------------------------------------------------------


async def test_people_can_write_while_the_platform_is_away(
    platform: StandInTelegram, channel: Telegram
) -> None:
    platform.go_away()
    number = platform.say(5, "hello?")
    platform.come_back()
    queue = AsyncRecordingQueue()
    polling = asyncio.create_task(channel.poll(queue))
    await asyncio.to_thread(
        platform.wait_for, lambda: any(_confirms(one, platform) for one in platform.requests)
    )
    assert [one[0] for one in queue.messages] == [f"telegram:5:{number}"]
    polling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await polling


@pytest.mark.parametrize("form", ["urlencoded", "multipart"])
async def test_forms_are_taken_as_libraries_of_bots_send_them(
    platform: StandInTelegram, form: str
) -> None:
    chat = platform.chat(-55)
    number = platform.say(-55, "hi")
    fields = {
        "chat_id": "-55",
        "text": "[1] Grüße & mehr",
        "entities": '[{"type": "bold", "offset": 0, "length": 3}]',
        "reply_parameters": f'{{"message_id": {number}}}',
    }
    files = {name: (None, value) for name, value in fields.items()}
    body: Any = {"data": fields} if form == "urlencoded" else {"files": files}
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{platform.url}/bot{platform.token}/sendMessage", **body)
    assert answer.json()["ok"], answer.text
    message = list(chat.messages.values())[-1]
    assert (message.text, message.reply_to) == ("[1] Grüße & mehr", number)
    assert [one["type"] for one in message.entities] == ["bold"]


async def test_a_fault_can_choose_its_requests(
    platform: StandInTelegram, channel: Telegram
) -> None:
    platform.chat(5)
    platform.fault(AnswerWith(502), when=lambda request: request.body["text"] == "two")
    outcomes = [await channel.send("5", part(text)) for text in ("one", "two", "two")]
    assert [type(one) for one in outcomes] == [PartSent, PartUnknown, PartSent]


# --- secrets --------------------------------------------------------------------------------------


async def test_the_token_is_in_no_log_repr_or_error(
    platform: StandInTelegram, channel: Telegram, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    platform.chat(5)
    await channel.send("5", part("Hi"))
    echo = {"ok": False, "error_code": 400, "description": f"bad {platform.token}"}
    platform.fault(AnswerWith(400, echo), of="sendMessage")
    outcome = await channel.send("5", part("Hi"))
    platform.stop()
    lost = await channel.send("5", part("Hi"))
    # The fake's own server logs what it is asked.
    logged = "".join(
        record.getMessage() for record in caplog.records if "uvicorn" not in record.name
    )
    said = f"{outcome} {lost} {channel!r} {vars(channel)!r} {logged}"
    assert "[key]/sendMessage" in logged, "the HTTP library logs addresses"
    assert platform.token.partition(":")[2] not in said
    for wrong in ("", "abc", "1:x y", None):
        with pytest.raises(InvalidArgument) as refusal:
            Telegram(wrong)
        assert str(wrong) not in str(refusal.value) or not wrong
