"""What is going to happen, decided before anything starts: the same settings and seed give the same list of events."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from assistant_queue.testing.chaos.faults import WEIGHTS
from assistant_queue.testing.provider.script import Protocol

TOOL_WORD = "[order]"
"""A message with this word makes the model ask for a function."""

_MAX_BURST = 4
_TOOL_SHARE = 0.15
_STOP_SHARE = 0.15
"""Of the blows at workers: a SIGSTOP and later a SIGCONT instead of a kill. Chosen."""

Kind = Literal["say", "fault", "kill", "stop", "restart"]
Whom = Literal["horse", "parent", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run of the chaos runner.

    Attributes:
        seconds: How long things go wrong; after that they only have to drain.
        kill_every: Seconds between two blows at workers; 0 for none.
        restart_every: Seconds between two restarts of Redis; 0 for none.
        fault_every: Seconds between two faults of the provider; 0 for none.
        burst_every: Seconds between two bursts of messages, over all threads.
        workers: Processes; every second one forks.
        threads: Conversation threads.
        producers: OS threads that add messages, each for conversation threads of its own.
        lease: `lock_duration`, seconds.
        request_timeout: As in the queue's options, seconds.
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
    threads: int = 48
    producers: int = 6
    lease: float = 2.0
    request_timeout: float = 2.0
    drain: float = 120.0
    app: str = "assistant_queue.testing.chaos.app:queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens.

    Attributes:
        at: Seconds after the start.
        kind: `say` a message is added, `fault` the provider misbehaves once, `kill` and `stop` a worker, `restart` Redis.
        thread: Of a message.
        message_id: Of a message.
        text: Of a message, or a fault's name.
        whom: Of a kill or stop; a worker that does not fork is its own parent.
        slot: Of a kill or stop: which worker; the next one that is ready if it is not.
        seconds: How long a worker is stopped, or Redis is away.
    """

    at: float
    kind: Kind
    thread: str = ""
    message_id: str = ""
    text: str = ""
    whom: Whom = "both"
    slot: int = 0
    seconds: float = 0.0


def make_plan(settings: Settings) -> list[Event]:
    """All events, in order of time."""
    chance = random.Random(settings.seed)  # noqa: S311 - a plan, not a secret
    events = [*_messages(settings, chance), *_blows(settings, chance), *_restarts(settings, chance), *_faults(settings, chance)]
    return sorted(events, key=lambda event: event.at)


def _every(seconds: float, settings: Settings, chance: random.Random) -> Iterator[float]:
    """Times about so far apart; none if it is 0."""
    at = seconds * chance.uniform(0.5, 1.5)
    while seconds > 0 and at < settings.seconds:
        yield round(at, 3)
        at += seconds * chance.uniform(0.5, 1.5)


def _messages(settings: Settings, chance: random.Random) -> Iterator[Event]:
    numbers: dict[str, int] = {}
    free_at: dict[str, float] = {}
    for start in _every(settings.burst_every, settings, chance):
        thread = f"thread-{chance.randrange(settings.threads)}"
        at = max(start, free_at.get(thread, 0.0))
        for _ in range(chance.randint(1, _MAX_BURST)):
            number = numbers[thread] = numbers.get(thread, 0) + 1
            word = f" {TOOL_WORD}" if chance.random() < _TOOL_SHARE else ""
            yield Event(at=round(at, 3), kind="say", thread=thread, message_id=f"{thread}.{number}", text=f"{thread} says {number}{word}")
            at += chance.choice((0.0, 0.0, 0.02, 0.2))
        free_at[thread] = at + 0.001


def _blows(settings: Settings, chance: random.Random) -> Iterator[Event]:
    for at in _every(settings.kill_every, settings, chance):
        slot = chance.randrange(settings.workers)
        whom: Whom = chance.choice(("horse", "parent", "both"))
        if chance.random() < _STOP_SHARE:
            # Longer than the lease and shorter than the grace: what left just before is at the provider when it is asked.
            yield Event(at=at, kind="stop", slot=slot, whom=whom, seconds=round(settings.lease * chance.uniform(1.25, 2.25), 2))
        else:
            yield Event(at=at, kind="kill", slot=slot, whom=whom)


def _restarts(settings: Settings, chance: random.Random) -> Iterator[Event]:
    for at in _every(settings.restart_every, settings, chance):
        yield Event(at=at, kind="restart", seconds=round(chance.uniform(0.1, 1.5), 2))


def _faults(settings: Settings, chance: random.Random) -> Iterator[Event]:
    names, weights = zip(*WEIGHTS[settings.protocol].items(), strict=True)
    for at in _every(settings.fault_every, settings, chance):
        yield Event(at=at, kind="fault", text=chance.choices(names, weights)[0])
