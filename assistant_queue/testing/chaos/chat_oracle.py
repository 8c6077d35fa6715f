"""The judge for a provider without conversations: Chat Completions.

A reply that was not delivered may be generated again there, so runs alone prove nothing. Instead
it judges that each message is in one batch with a delivered reply, and that the queue's history
and every request hold each batch once and in order.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from assistant_queue.testing.chaos.deliveries import Delivered
from assistant_queue.testing.chaos.fault_plans import reply_to
from assistant_queue.testing.chaos.oracle import Sent, Verdict, judge
from assistant_queue.testing.provider import RunRecord

Line = tuple[str, str]
"""Role (`user` or `assistant`) and text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The input of `judge_chat`.

    Attributes:
        sent: The producers' log; each thread's messages in order.
        runs: The provider's log.
        replied: The runs in which the model replied instead of asking for a function, and the texts
            it replied to.
        requested: The messages of each request, without instructions and tool rounds.
        delivered: The bot's log.
        histories: What the queue remembers of each thread in the end.
        stored: Message id -> the run that its status names.
        failed: Message id -> reason, of what is in the failed list.
        excused: Texts that may be lost, doubled or forgotten; of their threads no history is
            expected to be whole.
    """

    sent: Sequence[Sent]
    runs: Sequence[RunRecord]
    replied: Mapping[str, Sequence[str]]
    requested: Sequence[Sequence[Line]]
    delivered: Sequence[Delivered]
    histories: Mapping[str, Sequence[Line]]
    stored: Mapping[str, str | None]
    failed: Mapping[str, str]
    excused: frozenset[str] = frozenset()


def judge_chat(evidence: Evidence) -> Verdict:
    """Compare the evidence.

    The run that a delivery names counts as its thread's run; runs without a delivery cost money and
    prove nothing.
    """
    used = {
        (one.batch_id, one.run_id, one.message_ids, one.reply): one for one in evidence.delivered
    }.values()
    known = {run.id: run for run in evidence.runs}
    answers = [
        dataclasses.replace(
            known[one.run_id],
            conversation_id=one.thread,
            user_texts=tuple(evidence.replied.get(one.run_id, ())),
        )
        for one in used
        if one.run_id in known
    ]
    held = {
        thread: [text for who, text in lines if who == "user"]
        for thread, lines in evidence.histories.items()
    }
    verdict = judge(
        evidence.sent,
        answers,
        held,
        replied=evidence.replied,
        failed=evidence.failed,
        excused=evidence.excused,
    )
    pardoned = {message.thread for message in evidence.sent if message.text in evidence.excused}
    found = [*_wrong_deliveries(evidence, used), *_wrong_words(evidence)]
    wrong = [line for thread, line in found if thread not in pardoned]
    return dataclasses.replace(
        verdict, strange=verdict.strange + len(wrong), details=(*verdict.details, *wrong)
    )


def _wrong_deliveries(evidence: Evidence, used: Iterable[Delivered]) -> Iterator[tuple[str, str]]:
    """Find deliveries with a reply or run other than the model's or the status'; with their thread."""
    text_of = {message.message_id: message.text for message in evidence.sent}
    for one in used:
        texts = [text_of.get(message_id) for message_id in one.message_ids]
        answered = evidence.replied.get(one.run_id)
        if answered is None or list(answered) != texts or one.reply != reply_to(answered):
            yield (
                one.thread,
                (
                    f"batch {one.batch_id}: {one.reply!r} was delivered for {texts}; "
                    f"run {one.run_id} replied to {answered}"
                ),
            )
        for message_id in one.message_ids:
            named = evidence.stored.get(message_id)
            if named != one.run_id:
                yield (
                    one.thread,
                    (
                        f"message {message_id!r}: its status names run {named}, "
                        f"run {one.run_id} was delivered"
                    ),
                )


def _wrong_words(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Find requests and histories with gaps, repetitions or wrong replies, with their thread."""
    said: dict[str, list[str]] = defaultdict(list)
    thread_of: dict[str, str] = {}
    for message in evidence.sent:
        said[message.thread].append(message.text)
        thread_of[message.text] = message.thread
    for lines in evidence.requested:
        thread = thread_of.get(next((text for who, text in lines if who == "user"), ""), "")
        yield from (
            (thread, f"a request for {thread}: {what}") for what in _unlike(lines, said[thread])
        )
    for thread, lines in evidence.histories.items():
        yield from (
            (thread, f"the history of {thread}: {what}") for what in _unlike(lines, said[thread])
        )
        if lines and lines[-1][0] == "user":
            yield thread, f"the history of {thread}: {lines[-1][1]!r} has no reply"


def _unlike(lines: Sequence[Line], said: Sequence[str]) -> Iterator[str]:
    texts = [text for who, text in lines if who == "user"]
    if texts != list(said[: len(texts)]):
        yield f"has {texts} instead of {list(said[: len(texts)])}"
    asked: list[str] = []
    for who, text in lines:
        if who == "user":
            asked.append(text)
        elif text != reply_to(asked):
            yield f"has {text!r} as the reply to {asked}"
            asked = []
        else:
            asked = []
