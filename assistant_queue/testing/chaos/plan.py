"""The plan of a run: the same settings and seed give the same list of events."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from assistant_queue.testing.chaos.fault_plans import OF_STEERING, OF_WRITING, WEIGHTS, WRITING
from assistant_queue.testing.provider.script import Protocol

TOOL_WORD = "[order]"
"""A message with this word makes the model ask for a function."""

_MAX_BURST = 4
_TOOL_SHARE = 0.15
_NOTE_SHARE = 0.5
_FAULT_SHARE = 0.3
_STEER_SHARE = 0.4
"""Share of the messages after which a stop, an interrupt or a steer comes."""
_REVISE_SHARE = 0.12
"""Share of the messages that are edited or removed, most of them while they are answered."""
_STOP_SHARE = 0.15
"""Share of the blows at workers that are a SIGSTOP and a later SIGCONT instead of a kill. Chosen: a
plan of a minute has several."""

_MAX_ACTS = 5
_LATE_SHARE = 0.35
"""Share of the takeovers that let the answer under way end first."""

HOUR_S = 3600.0

ASKED = "webhook"
"""The channel with a platform that recognises a part that is sent again."""
BLIND = "telegram"
"""The channel with a platform that cannot be asked whether it has a part."""
CHANNELS = (BLIND, ASKED)
PLATFORM_FAULTS = ("away", "flaps", "429", "502", "takes it, drops", "drops")

Kind = Literal[
    "say",
    "note",
    "tell",
    "fault",
    "kill",
    "stop",
    "restart",
    "stall",
    "crowd",
    "starve",
    "truncate",
    "fail_over",
    "add_bulk",
    "set_clock_back",
    "platform",
    "halt",
    "interrupt",
    "steer",
    "edit",
    "remove",
    "take_over",
    "refuse",
    "hand_back",
]
Whom = Literal["horse", "parent", "both"]

STEERING: tuple[Kind, ...] = ("halt", "interrupt", "steer")
"""Kinds of events that are meant for a run."""

REVISIONS: tuple[Kind, ...] = ("edit", "remove")
"""Kinds of events that are meant for a message of a run."""

HANDOVERS: tuple[Kind, ...] = ("take_over", "refuse", "hand_back")
"""Kinds of events that are a person's."""

PERSONS = ("Jo", "Kim", "Lou")

BY_PRODUCERS = frozenset({"say", "note", "tell", *STEERING, *REVISIONS, *HANDOVERS})
"""Kinds of events that are a producer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosSettings:
    """One run of the chaos runner.

    Attributes:
        seconds: How long things go wrong; after that they only have to drain.
        kill_every: Seconds between two blows at workers; 0 for none.
        restart_every: Seconds between two restarts of Redis; 0 for none.
        fault_every: Seconds between two faults of the provider; 0 for none.
        burst_every: Seconds between two bursts of messages, over all threads.
        stall_every: Seconds between two moments in which Redis stands still; 0 for none, as below.
        crowd_every: Seconds between two moments in which Redis takes hardly any connection.
        starve_every: Seconds between two moments in which a worker gets no more memory.
        truncate_every: Seconds between two crashes of Redis that cost the last second of its file.
        fail_over_every: Seconds between two losses of the primary; a Sentinel promotes its replica.
        bulk_every: Seconds between two producers that are killed in the middle of `add_messages`.
        clock_every: Seconds between two settings of the store's clock, an hour back each.
        platform_every: Seconds between two faults of the chat platforms to which all replies are
            delivered then; 0 for no platforms.
        said_every: Seconds between two replies of `say`, half of them after a message that wants no
            reply; 0 for none.
        takeover_every: Seconds between two takeovers of a thread by a person; 0 for none.
        steering: Answers are stopped, interrupted and steered, and messages of them edited and removed.
        background: Runs are in the background, and polled.
        approvals: The function waits for an approval; operators approve, deny and answer.
        windows: Windows are adaptive, batches are bounded in characters, and threads are flushed.
        audit: The database of an audit; `sqlite` for a file of the run, "" for none.
        max_jobs: Jobs after which a worker under `rq worker` ends; 0 for no end.
        durability: As in the queue's options; "replicated" needs `fail_over_every`.
        workers: Processes; every second one forks.
        threads: Conversation threads.
        producers: OS threads that add messages, each for its own conversation threads.
        lease: `lock_duration`, seconds.
        request_timeout: As in the queue's options, seconds.
        run_timeout: As in the queue's options, seconds: how long a worker that hangs keeps its
            threads.
        drain: Seconds after which what is not answered counts as lost.
        app: Where the workers find their queue, `module:attribute`.
    """

    seconds: float = 60.0
    seed: int = 1
    protocol: Protocol = "responses"
    workers: int = 4
    kill_every: float = 1.0
    restart_every: float = 30.0
    fault_every: float = 0.7
    burst_every: float = 0.3
    stall_every: float = 0.0
    crowd_every: float = 0.0
    starve_every: float = 0.0
    truncate_every: float = 0.0
    fail_over_every: float = 0.0
    bulk_every: float = 0.0
    clock_every: float = 0.0
    platform_every: float = 0.0
    said_every: float = 0.0
    takeover_every: float = 0.0
    steering: bool = False
    background: bool = False
    approvals: bool = False
    windows: bool = False
    audit: str = ""
    max_jobs: int = 0
    durability: str = "local"
    threads: int = 48
    producers: int = 6
    lease: float = 2.0
    request_timeout: float = 2.0
    run_timeout: float = 60.0
    drain: float = 120.0
    app: str = "assistant_queue.testing.chaos.chaos_bot:queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """One event of a plan.

    Attributes:
        at: Seconds after the start.
        kind: `say` a message is added, `note` one that wants no reply, `tell` a reply of `say`,
            `halt` the answer is stopped, `interrupt` and `steer` a message is added during a run,
            `edit` and `remove` change a message, also during a run,
            `take_over` and `hand_back` are a person's, `refuse` another one's that comes too late,
            `fault` the provider misbehaves once, `kill`, `stop` and `starve` a worker, `add_bulk` a
            producer is killed; `restart`, `stall`, `crowd`, `truncate`, `fail_over` and
            `set_clock_back` are done to Redis, `platform` to one of the chat platforms.
        thread: Of a message.
        message_id: Of a message.
        text: Of a message, or a fault's name, of a platform after the platform's, or a person's.
        `whom`: Of a kill or stop; a worker that does not fork is its own parent.
        slot: Of a kill, stop or starve: which worker; the next one that is ready if it is not. Of a
            bulk: its number. Of a takeover: 1 if the answer that is under way ends first.
        seconds: How long a worker is stopped or starved, or Redis is away, stands still or takes no
            client, or a platform misbehaves; how far the clock goes back.
    """

    at: float
    kind: Kind
    thread: str = ""
    message_id: str = ""
    text: str = ""
    whom: Whom = "both"
    slot: int = 0
    seconds: float = 0.0


def make_plan(settings: ChaosSettings) -> list[PlannedFault]:
    """Return all events in the order of their times."""
    chance = random.Random(settings.seed)  # noqa: S311 - a plan, not a secret
    events = [
        *_messages(settings, chance),
        *_blows(settings, chance),
        *_restarts(settings, chance),
        *_faults(settings, chance),
    ]
    # The last ones, so that a plan without them stays what it was.
    events += _shocks(settings, chance)
    events += _said(settings, chance)
    if settings.steering:
        says = [event for event in events if event.kind == "say"]
        events += _steered(settings, chance, says)
        events += _revised(chance, says)
    events += _taken_over(settings, chance)
    return sorted(events, key=lambda event: event.at)


def _every(seconds: float, settings: ChaosSettings, chance: random.Random) -> Iterator[float]:
    """Yield times with about this interval; none for 0."""
    at = seconds * chance.uniform(0.5, 1.5)
    while seconds > 0 and at < settings.seconds:
        yield round(at, 3)
        at += seconds * chance.uniform(0.5, 1.5)


def _messages(settings: ChaosSettings, chance: random.Random) -> Iterator[PlannedFault]:
    numbers: dict[str, int] = {}
    free_at: dict[str, float] = {}
    for start in _every(settings.burst_every, settings, chance):
        thread = _thread(settings, chance.randrange(settings.threads))
        at = max(start, free_at.get(thread, 0.0))
        for _ in range(chance.randint(1, _MAX_BURST)):
            number = numbers[thread] = numbers.get(thread, 0) + 1
            word = f" {TOOL_WORD}" if chance.random() < _TOOL_SHARE else ""
            yield PlannedFault(
                at=round(at, 3),
                kind="say",
                thread=thread,
                message_id=f"{thread}.{number}",
                text=f"{thread} says {number}{word}",
            )
            at += chance.choice((0.0, 0.0, 0.02, 0.2))
        free_at[thread] = at + 0.001


def _thread(settings: ChaosSettings, number: int) -> str:
    if not settings.platform_every:
        return f"thread-{number}"
    return f"{CHANNELS[number % len(CHANNELS)]}:{number + 1}"


def _blows(settings: ChaosSettings, chance: random.Random) -> Iterator[PlannedFault]:
    for at in _every(settings.kill_every, settings, chance):
        slot = chance.randrange(settings.workers)
        whom: Whom = chance.choice(("horse", "parent", "both"))
        if chance.random() < _STOP_SHARE:
            # Longer than the lease and shorter than the grace: what left just before is at the
            # provider when it is asked.
            yield PlannedFault(
                at=at,
                kind="stop",
                slot=slot,
                whom=whom,
                seconds=round(settings.lease * chance.uniform(1.25, 2.25), 2),
            )
        else:
            yield PlannedFault(at=at, kind="kill", slot=slot, whom=whom)


def _restarts(settings: ChaosSettings, chance: random.Random) -> Iterator[PlannedFault]:
    for at in _every(settings.restart_every, settings, chance):
        yield PlannedFault(at=at, kind="restart", seconds=round(chance.uniform(0.1, 1.5), 2))


def _faults(settings: ChaosSettings, chance: random.Random) -> Iterator[PlannedFault]:
    names, weights = zip(*WEIGHTS[settings.protocol].items(), strict=True)
    for at in _every(settings.fault_every, settings, chance):
        yield PlannedFault(at=at, kind="fault", text=chance.choices(names, weights)[0])


def _shocks(settings: ChaosSettings, chance: random.Random) -> Iterator[PlannedFault]:
    for at in _every(settings.stall_every, settings, chance):
        yield PlannedFault(
            at=at, kind="stall", seconds=round(settings.lease * chance.uniform(0.2, 1.5), 2)
        )
    for at in _every(settings.crowd_every, settings, chance):
        yield PlannedFault(at=at, kind="crowd", seconds=round(chance.uniform(0.5, 2.0), 2))
    for at in _every(settings.starve_every, settings, chance):
        yield PlannedFault(
            at=at,
            kind="starve",
            slot=chance.randrange(settings.workers),
            seconds=round(chance.uniform(0.5, 3.0), 2),
        )
    for at in _every(settings.truncate_every, settings, chance):
        yield PlannedFault(at=at, kind="truncate", seconds=round(chance.uniform(0.1, 1.0), 2))
    for at in _every(settings.fail_over_every, settings, chance):
        yield PlannedFault(
            at=at, kind="fail_over", text=chance.choice(("killed", "stopped", "asked"))
        )
    for number, at in enumerate(_every(settings.bulk_every, settings, chance)):
        yield PlannedFault(at=at, kind="add_bulk", slot=number)
    for at in _every(settings.clock_every, settings, chance):
        yield PlannedFault(at=at, kind="set_clock_back", seconds=HOUR_S)
    for at in _every(settings.platform_every, settings, chance):
        yield PlannedFault(
            at=at,
            kind="platform",
            text=f"{chance.choice(CHANNELS)}: {chance.choice(PLATFORM_FAULTS)}",
            seconds=round(chance.uniform(0.5, 3.0), 2),
        )


def _said(settings: ChaosSettings, chance: random.Random) -> Iterator[PlannedFault]:
    numbers: dict[str, int] = {}
    for at in _every(settings.said_every, settings, chance):
        thread = _thread(settings, chance.randrange(settings.threads))
        number = numbers[thread] = numbers.get(thread, 0) + 1
        if chance.random() < _FAULT_SHARE:
            fault = f"{WRITING[settings.protocol]}: {chance.choice(OF_WRITING)}"
            yield PlannedFault(at=at, kind="fault", text=fault)
        for kind in ("note", "tell") if chance.random() < _NOTE_SHARE else ("tell",):
            yield PlannedFault(
                at=at,
                kind=kind,
                thread=thread,
                message_id=f"{thread}.{kind}.{number}",
                text=f"{thread} {kind}s {number}",
            )
    # Answers what waits after a reply that Redis may not have taken.
    for thread in numbers:
        yield PlannedFault(
            at=settings.seconds,
            kind="say",
            thread=thread,
            message_id=f"{thread}.end",
            text=f"{thread} says 0",
        )


def _steered(
    settings: ChaosSettings, chance: random.Random, says: list[PlannedFault]
) -> Iterator[PlannedFault]:
    """Yield what comes while a message is likely to be answered, and what meets it in trouble."""
    for number, event in enumerate(says):
        if chance.random() > _STEER_SHARE:
            continue
        kind = chance.choice(STEERING)
        yield PlannedFault(
            at=round(event.at + chance.uniform(0.2, 1.6), 3),
            kind=kind,
            thread=event.thread,
            message_id=f"{event.thread}.{kind}.{number}",
            text=f"{event.thread} {kind}s {number}",
        )
        if settings.fault_every and chance.random() < _FAULT_SHARE / 2:
            fault = chance.choice(OF_STEERING[settings.protocol])
            yield PlannedFault(at=round(event.at, 3), kind="fault", text=fault)


def _revised(chance: random.Random, says: list[PlannedFault]) -> Iterator[PlannedFault]:
    """Yield edits and removals, at most one of a message."""
    for event in says:
        if chance.random() > _REVISE_SHARE:
            continue
        kind = chance.choice(REVISIONS)
        yield PlannedFault(
            at=round(event.at + chance.uniform(0.05, 1.6), 3),
            kind=kind,
            thread=event.thread,
            message_id=event.message_id,
            text=f"{event.text} (edited)" if kind == "edit" else "",
        )


def _taken_over(settings: ChaosSettings, chance: random.Random) -> Iterator[PlannedFault]:
    """Yield takeovers, with what is written and said meanwhile."""
    number = 0
    free_at: dict[str, float] = {}
    for start in _every(settings.takeover_every, settings, chance):
        thread = _thread(settings, chance.randrange(settings.threads))
        if free_at.get(thread, 0.0) > start:
            continue
        person = chance.choice(PERSONS)
        acts: list[tuple[Kind, str]] = [("say", ""), ("take_over", person)]
        for _ in range(chance.randint(1, _MAX_ACTS)):
            kind: Kind = chance.choice(("say", "say", "tell", "tell", "refuse", "take_over"))
            other = chance.choice([one for one in PERSONS if one != person])
            person = other if kind == "take_over" else person
            acts.append((kind, other))
        acts.append(("hand_back", ""))
        at = start
        for kind, name in acts:
            number += 1
            if kind == "tell" and chance.random() < _FAULT_SHARE and settings.protocol in WRITING:
                fault = f"{WRITING[settings.protocol]}: {chance.choice(OF_WRITING)}"
                yield PlannedFault(at=round(at, 3), kind="fault", text=fault)
            word = f" {TOOL_WORD}" if kind == "say" and chance.random() < _TOOL_SHARE else ""
            yield PlannedFault(
                at=round(at, 3),
                kind=kind,
                thread=thread,
                message_id=f"{thread}.{kind}.{number}",
                text=name if kind in HANDOVERS else f"{thread} {kind}s to the desk {number}{word}",
                slot=int(kind == "take_over" and chance.random() < _LATE_SHARE),
            )
            at += chance.choice((0.0, 0.05, chance.uniform(0.1, 1.2)))
        free_at[thread] = at + 0.001
