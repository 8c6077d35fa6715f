"""The conformance suite of channels: subclass it in a test module and describe your platform.

    class TestMyChannel(ChannelConformance):
        @pytest.fixture
        def rig(self):
            with MyFakePlatform() as platform:
                yield MyRig(platform)

Needs pytest. Each test runs its own event loop, so no plugin is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import pytest

from assistant_queue.channels.base import Part, PartNotSent, PartSent, Payload
from assistant_queue.channels.channel import Channel
from assistant_queue.errors import (
    DeliveryUnknown,
    InvalidPayload,
    NotAuthenticated,
    PayloadTooLarge,
    RetryLater,
    Undeliverable,
)
from assistant_queue.models import RunResult
from assistant_queue.testing.channels.memory_progress import DeliveryCrash, MemoryProgress
from assistant_queue.testing.channels.recording_queues import AsyncRecordingQueue, RecordingQueue

__all__ = [
    "AsyncRecordingQueue",
    "ChannelConformance",
    "ChannelRig",
    "RecordingQueue",
    "Trouble",
    "long_reply",
    "result_of",
]

T = TypeVar("T")

Trouble = Literal["later", "gone", "lost before", "lost after"]
"""Fate of the next part: refused for now, refused for ever, the connection lost before the
platform took the part, or after."""

EMOJI = "👨‍👩‍👧‍👦"


class ChannelRig:
    """One channel with a fake of its platform, described for the suite.

    Attributes:
        channel: The channel under test. Set its `limits` so that parts need no waiting.
        address: A chat that exists.
        secrets: Texts that must not be in reprs and errors.
    """

    channel: Channel
    address: str
    secrets: tuple[str, ...] = ()

    def request(self, text: str, message_id: str) -> tuple[Payload, Mapping[str, str]]:
        """Return the platform's request for a new message: body and headers."""
        raise NotImplementedError

    def unsigned(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return the headers of a request with a wrong signature or secret."""
        raise NotImplementedError

    def signed(self, body: bytes) -> Mapping[str, str]:
        """Return the headers of a request with this body, signed as the platform does it."""
        raise NotImplementedError

    def shown(self) -> list[str]:
        """Return the texts that the platform shows in the chat, in order."""
        raise NotImplementedError

    def trouble(self, kind: Trouble) -> float | None:
        """Have the next part fail; return the seconds that the platform asks to wait, if any."""
        raise NotImplementedError


class ChannelConformance:
    """Tests that every channel has to pass; a subclass has a fixture `rig`."""

    @pytest.fixture
    def rig(self) -> Any:
        """Return the `ChannelRig` of the channel under test."""
        raise NotImplementedError("a subclass of ChannelConformance needs the fixture `rig`")

    # --- delivering -------------------------------------------------------------------------------

    def test_a_reply_arrives(self, rig: ChannelRig) -> None:
        """Deliver a short reply."""
        progress = MemoryProgress()
        _deliver(rig, "Hello there", progress)
        assert [text.strip() for text in rig.shown()] == ["Hello there"]
        assert (progress.parts_sent, progress.uncertain_part) == (1, None)

    def test_a_delivered_reply_is_not_sent_again(self, rig: ChannelRig) -> None:
        """Deliver twice with the same progress."""
        progress = MemoryProgress()
        _deliver(rig, long_reply(rig.channel), progress)
        before = rig.shown()
        _deliver(rig, long_reply(rig.channel), progress)
        assert rig.shown() == before

    def test_parts_are_within_the_limit_and_whole(self, rig: ChannelRig) -> None:
        """Split a reply of code, a list, a table, links and emoji."""
        limit = rig.channel.limits.units
        parts = rig.channel.split(long_reply(rig.channel))
        if limit is None:
            assert len(parts) == 1
            return
        assert len(parts) > 1
        for part in parts:
            assert rig.channel.measure(part) <= limit
            assert part.count("```") % 2 == 0, "a code fence is closed"
            assert part.count("](https://") == part.count("/end)"), "a link is whole"
            assert not part.startswith("\u200d"), "an emoji is whole"
            assert not part.endswith("\u200d"), "an emoji is whole"
        assert rig.channel.split(long_reply(rig.channel)) == parts, "the same parts each time"

    def test_a_long_reply_arrives_in_order(self, rig: ChannelRig) -> None:
        """Deliver several parts."""
        text = long_reply(rig.channel)
        _deliver(rig, text, MemoryProgress())
        total = max(1, len(rig.channel.split(text)))
        shown = rig.shown()
        assert len(shown) == total
        numbers = [int(word[1:]) for one in shown for word in one.split() if _is_number(word)]
        assert numbers == sorted(numbers)
        assert numbers

    @pytest.mark.parametrize("point", ["sending", "sent"])
    @pytest.mark.parametrize("index", [0, 1, 2])
    def test_a_crash_at_a_part_doubles_nothing(
        self, rig: ChannelRig, point: str, index: int
    ) -> None:
        """Die before a part is sent or after it was confirmed, and deliver again."""
        text = long_reply(rig.channel)
        total = max(1, len(rig.channel.split(text)))
        index = min(index, total - 1)

        def die(where: str, part: int) -> None:
            if (where, part) == (point, index):
                raise DeliveryCrash

        progress = MemoryProgress(die)
        with pytest.raises(DeliveryCrash):
            _deliver(rig, text, progress)
        progress.at = None
        outcome = _outcome(lambda: _deliver(rig, text, progress))
        if outcome is None:
            assert len(rig.shown()) == total
        else:
            assert isinstance(outcome, DeliveryUnknown), "not known, and the platform cannot say"
            assert point == "sending"
            assert len(rig.shown()) == index

    def test_a_refusal_for_now_waits(self, rig: ChannelRig) -> None:
        """Raise RetryLater with the platform's own wait, then deliver once."""
        after = rig.trouble("later")
        progress = MemoryProgress()
        with pytest.raises(RetryLater) as refusal:
            _deliver(rig, "Hello", progress)
        assert refusal.value.after_s == after
        progress.settle()
        _deliver(rig, "Hello", progress)
        assert len(rig.shown()) == 1

    def test_a_chat_that_is_gone_is_final(self, rig: ChannelRig) -> None:
        """Raise Undeliverable."""
        rig.trouble("gone")
        with pytest.raises(Undeliverable) as refusal:
            _deliver(rig, "Hello", MemoryProgress())
        _assert_no_secret(rig, str(refusal.value))

    @pytest.mark.parametrize("kind", ["lost before", "lost after"])
    def test_a_lost_answer_doubles_nothing(self, rig: ChannelRig, kind: Trouble) -> None:
        """Lose the connection; find out, send again under the same key, or say it is unknown."""
        rig.trouble(kind)
        progress = MemoryProgress()
        first = _outcome(lambda: _deliver(rig, "Hello", progress))
        assert isinstance(first, DeliveryUnknown | RetryLater)
        _assert_no_secret(rig, str(first))
        if isinstance(first, RetryLater):
            progress.settle()  # it says that the part was not sent, or is safe to send again
        second = _outcome(lambda: _deliver(rig, "Hello", progress))
        if second is None:
            assert len(rig.shown()) == 1
        else:
            assert isinstance(second, DeliveryUnknown)
            assert len(rig.shown()) == (kind == "lost after")

    def test_a_sent_part_can_be_edited_if_the_platform_can(self, rig: ChannelRig) -> None:
        """Replace a part, twice with the same text; or refuse for good."""
        if rig.channel.limits.edits_interval is None:

            async def refused() -> Any:
                return await rig.channel.edit(rig.address, "1", Part(text="Good bye"))

            outcome = _run(rig, refused)
            assert isinstance(outcome, PartNotSent)
            assert outcome.final
            return
        progress = MemoryProgress()
        _deliver(rig, "Hello", progress)
        part_id = progress.part_ids[0]
        assert part_id is not None

        async def edit() -> Any:
            return await rig.channel.edit(rig.address, part_id, Part(text="Good bye"))

        for _ in range(2):
            assert isinstance(_run(rig, edit), PartSent)
        assert [text.strip() for text in rig.shown()] == ["Good bye"]

    @pytest.mark.parametrize("point", ["sending", "sent"])
    def test_the_reply_replaces_what_was_streamed_of_it(self, rig: ChannelRig, point: str) -> None:
        """Show half a reply, die while the whole one is delivered, and deliver it again."""
        if not rig.channel.streams(rig.address):
            return

        async def preview() -> Any:
            return await rig.channel.preview(rig.address, None, Part(text="Hel …", key="b1.p"))

        shown = _run(rig, preview)
        assert isinstance(shown, PartSent)
        if shown.id is None:
            return  # a draft, which is no message

        def die(where: str, _: int) -> None:
            if where == point:
                raise DeliveryCrash

        progress = MemoryProgress(die)
        progress.preview = shown.id
        with pytest.raises(DeliveryCrash):
            _deliver(rig, "Hello", progress)
        progress.at = None
        _deliver(rig, "Hello", progress)
        assert [text.strip() for text in rig.shown()] == ["Hello"]

    def test_typing_raises_nothing(self, rig: ChannelRig) -> None:
        """Show a typing indicator, also where it fails."""
        _run(rig, lambda: rig.channel.typing(rig.address))

    # --- receiving --------------------------------------------------------------------------------

    def test_a_message_is_received_once(self, rig: ChannelRig) -> None:
        """Receive the same request twice."""
        queue = RecordingQueue()
        body, headers = rig.request("Hi!", "71")
        first = rig.channel.receive(queue, body, headers)
        again = rig.channel.receive(queue, body, headers)
        assert [receipt.duplicate for receipt in first.receipts] == [False]
        assert [receipt.duplicate for receipt in again.receipts] == [True]
        ((message_id, thread_id, content),) = queue.messages
        assert content == "Hi!"
        assert thread_id == rig.channel.thread_id(rig.address)
        assert message_id.startswith(f"{thread_id}:")

    def test_an_asyncio_queue_is_awaited(self, rig: ChannelRig) -> None:
        """Receive with an asyncio queue."""
        queue = AsyncRecordingQueue()
        body, headers = rig.request("Hi!", "71")

        async def receive() -> Any:
            return await rig.channel.receive(queue, body, headers)

        assert len(_run(rig, receive).receipts) == 1

    def test_a_wrong_signature_is_refused(self, rig: ChannelRig) -> None:
        """Queue nothing without the platform's secret."""
        queue = RecordingQueue()
        body, headers = rig.request("Hi!", "71")
        # hmac.compare_digest takes no text outside ASCII.
        accented = {name: f"\u00e9{value}" for name, value in rig.unsigned(headers).items()}
        for wrong in ({}, rig.unsigned(headers), accented):
            with pytest.raises(NotAuthenticated) as refusal:
                rig.channel.receive(queue, body, wrong)
            _assert_no_secret(rig, str(refusal.value))
        assert not queue.messages

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"{}", b"\xff\xfe", b"[" * 50_000])
    def test_a_body_of_nonsense_is_refused(self, rig: ChannelRig, body: bytes) -> None:
        """Queue nothing of it, and raise a typed error."""
        queue = RecordingQueue()
        with pytest.raises(InvalidPayload):
            rig.channel.receive(queue, body, rig.signed(body))
        assert not queue.messages

    def test_a_huge_body_is_not_read(self, rig: ChannelRig) -> None:
        """Refuse it before it is parsed."""
        body = b"x" * (rig.channel.limits.payload_bytes + 1)
        with pytest.raises(PayloadTooLarge):
            rig.channel.receive(RecordingQueue(), body, rig.signed(body))

    # --- names and secrets ------------------------------------------------------------------------

    def test_threads_have_the_channels_name(self, rig: ChannelRig) -> None:
        """Take an address apart again."""
        thread_id = rig.channel.thread_id(rig.address)
        assert thread_id == f"{rig.channel.name}:{rig.address}"
        assert rig.channel.address_of(thread_id) == rig.address

    def test_its_repr_has_no_secret(self, rig: ChannelRig) -> None:
        """Show a channel."""
        _assert_no_secret(rig, repr(rig.channel) + str(rig.channel))


def result_of(channel: Channel, address: str, reply: str | None, batch_id: str = "b1") -> RunResult:
    """Return the result of a batch of one message."""
    now = datetime.now(UTC)
    thread_id = channel.thread_id(address)
    return RunResult(
        thread_id=thread_id,
        run_id="run_1",
        batch_id=batch_id,
        message_ids=(f"{thread_id}:1",),
        messages_processed=1,
        status="completed",
        incomplete_reason=None,
        reply=reply,
        replies=() if reply is None else (reply,),
        usage=None,
        attempts=1,
        started_at=now,
        ended_at=now,
    )


def long_reply(channel: Channel) -> str:
    """Return a reply that is longer than two parts, with all that must not be torn."""
    limit = channel.limits.units or 2000
    code = "\n".join(f"x = 'n{number}'" for number in range(100, 100 + limit // 20))
    rows = "\n".join(f"| a | n{number:05} |" for number in range(20_000, 20_000 + limit // 40))
    items = "\n".join(f"- item n{number}" for number in range(30_000, 30_000 + limit // 40))
    links = " ".join(
        f"[the n{number} link](https://example.com/a/end)"
        for number in range(40_000, 40_000 + limit // 100)
    )
    return (
        f"# Title n1\n\n```python\n{code}\n```\n\n| x | y |\n|---|---|\n{rows}\n\n{items}\n\n"
        f"{links}\n\n{EMOJI * (limit // 20)}"
    )


def _is_number(word: str) -> bool:
    return word[:1] == "n" and word[1:].isdigit()


def _deliver(rig: ChannelRig, text: str, progress: MemoryProgress) -> None:
    result = result_of(rig.channel, rig.address, text)
    _run(rig, lambda: rig.channel.deliver(result, progress))


def _run(rig: ChannelRig, call: Callable[[], Awaitable[T]]) -> T:
    async def run() -> T:
        try:
            return await call()
        finally:
            await rig.channel.close()

    return asyncio.run(run())


def _outcome(call: Callable[[], Any]) -> Exception | None:
    try:
        call()
    except (RetryLater, Undeliverable, DeliveryUnknown) as error:
        return error
    return None


def _assert_no_secret(rig: ChannelRig, words: str) -> None:
    for secret in rig.secrets:
        assert secret not in words, "a secret is shown"
