"""Fair turns: one piece of work per iteration of the event loop, the lightest client's first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from assistant_queue.integrations.fastapi import fair_turns
from assistant_queue.integrations.fastapi.fair_turns import (
    AT_ONCE,
    IS_GONE,
    LIGHT,
    FairTurns,
    TakingTurns,
)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> FairTurns:
    """Return turns at a time that stands still, in which no request counts as slow."""
    monkeypatch.setattr(fair_turns, "LONGEST_S", 3600)
    return FairTurns(now=lambda: 1000.0)


class Loop:
    """Names of pieces, by the iteration of the event loop in which they ran."""

    def __init__(self) -> None:
        self.turns: list[list[str]] = [[]]

    def piece(self, name: str) -> Callable[[], None]:
        return lambda: self.turns[-1].append(name)

    async def run(self, iterations: int) -> list[list[str]]:
        self.turns.append([])
        for _ in range(iterations):
            await asyncio.sleep(0)
            self.turns.append([])
        return [turn for turn in self.turns if turn]


async def test_one_piece_runs_in_an_iteration_and_a_light_client_is_next(turns: FairTurns) -> None:
    loop = Loop()
    for number in range(4):
        turns.run("flood", loop.piece(f"flood {number}"))
    turns.run("mia", loop.piece("mia"))
    ran = await loop.run(6)
    assert ran == [["flood 0"], ["mia"], ["flood 1"], ["flood 2"], ["flood 3"]]
    turns.run("tom", loop.piece("tom"))
    assert loop.turns[-1] == ["tom"], "nothing waits any more"


async def test_two_clients_that_send_much_take_turns(turns: FairTurns) -> None:
    loop = Loop()
    for client in ("a", "b"):
        for _ in range(3):
            turns.run(client, loop.piece(client))
    assert await loop.run(8) == [["a"], ["b"]] * 3


async def test_a_flood_is_forgotten_after_a_while() -> None:
    time = [0.0]
    turns = FairTurns(now=lambda: time[0])
    turns.charge("flood", 10_000)
    assert not turns._is_light(turns.charge("flood", 0))
    time[0] = (fair_turns.MOST - LIGHT) / fair_turns.DECAY
    assert turns._is_light(turns.charge("flood", 0))


async def test_only_the_clients_seen_last_are_remembered(
    turns: FairTurns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fair_turns, "KEPT", 10)
    for number in range(30):
        turns.charge(f"client {number}", 1)
        turns.charge("client 0", 1)
    assert len(turns._levels) == 10
    assert "client 0" in turns._levels


class App:
    """Requests that are answered when the test says so."""

    def __init__(self, turns: FairTurns) -> None:
        self.begun: list[str] = []
        self.ends = asyncio.Event()
        self.gates: dict[str, asyncio.Event] = {}
        self.gone: set[str] = set()
        self.app = TakingTurns(self._answer, turns, lambda connection: connection.client.host)  # type: ignore[union-attr,arg-type]
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"]
        self.begun.append(name)
        await self.gates[name].wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.ends.wait()

    def ask(self, client: str, name: str) -> None:
        async def sent(message: Any) -> None:
            del message

        scope = {
            "type": "http",
            "path": name,
            "headers": [],
            "client": (client, 1),
            "state": {IS_GONE: lambda: name in self.gone},
        }
        self.gates[name] = asyncio.Event()
        self.tasks[name] = asyncio.ensure_future(self.app(scope, None, sent))  # type: ignore[arg-type]

    async def settle(self) -> list[str]:
        for _ in range(50):
            await asyncio.sleep(0)
        return self.begun


async def test_of_a_flood_few_requests_are_under_way_and_others_pass_it(turns: FairTurns) -> None:
    app = App(turns)
    turns.charge("flood", 100)
    for number in range(20):
        app.ask("flood", f"f{number}")
    assert len(await app.settle()) == AT_ONCE
    for name in ("mia", "tom"):
        app.ask(name, name)
    assert (await app.settle())[AT_ONCE:] == ["mia", "tom"]
    for name in ("mia", "tom", "f0"):
        app.gates[name].set()
    assert (await app.settle())[AT_ONCE + 2 :] == [f"f{AT_ONCE}"], "one is answered, one begins"


async def test_requests_that_are_cancelled_keep_no_place(turns: FairTurns) -> None:
    app = App(turns)
    turns.charge("flood", 100)
    for number in range(6):
        app.ask("flood", f"f{number}")
    await app.settle()
    for name in ("f0", "f2"):  # under way, and waiting
        app.tasks[name].cancel()
    assert await app.settle() == ["f0", "f1", "f3"]
    for name in app.gates:
        app.gates[name].set()
    assert set(await app.settle()) == {"f0", "f1", "f3", "f4", "f5"}
    assert turns._heavy == 0


async def test_a_request_of_a_client_that_has_gone_does_not_begin(turns: FairTurns) -> None:
    app = App(turns)
    turns.charge("flood", 100)
    for number in range(AT_ONCE + 3):
        app.ask("flood", f"f{number}")
    await app.settle()
    app.gone.update({f"f{AT_ONCE}", f"f{AT_ONCE + 1}"})
    app.gates["f0"].set()
    assert (await app.settle())[AT_ONCE:] == [f"f{AT_ONCE + 2}"]
    assert app.tasks[f"f{AT_ONCE}"].done()
    assert turns._heavy == AT_ONCE


async def test_a_request_that_is_cancelled_before_its_turn_keeps_no_place(
    turns: FairTurns,
) -> None:
    app = App(turns)
    turns.charge("flood", 100)
    leave = await turns.enter("mia", lambda: False)
    assert leave is not None
    turns.run("flood", lambda: None)
    app.ask("flood", "f0")
    assert await app.settle() == [], "held while mia's request is under way"
    assert turns._heavy == 1
    app.tasks["f0"].cancel()
    await app.settle()
    assert turns._heavy == 0


async def test_a_light_request_that_is_cancelled_holds_no_heavy_client(turns: FairTurns) -> None:
    app = App(turns)
    loop = Loop()
    asyncio.get_running_loop().call_soon(turns.run, "tom", lambda: None)
    app.ask("mia", "mia")
    await asyncio.sleep(0)
    app.tasks["mia"].cancel()  # it waits for the turn after tom's
    assert await app.settle() == []
    turns.charge("flood", 100)
    turns.run("flood", loop.piece("first"))
    turns.run("flood", loop.piece("second"))
    assert await loop.run(5) == [["first"], ["second"]]


async def test_a_request_that_takes_long_lets_the_next_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fair_turns, "LONGEST_S", 0.0)
    turns = FairTurns()
    app = App(turns)
    turns.charge("proxy", 100)
    for number in range(6):
        app.ask("proxy", f"p{number}")
    assert len(await app.settle()) == 6, "their `authorize` may be slow"


async def test_heavy_clients_are_held_while_a_light_request_is_under_way() -> None:
    time = [1000.0]
    loop = Loop()
    turns = FairTurns(now=lambda: time[0])
    turns.charge("flood", 100)
    leave = await turns.enter("mia", lambda: False)
    assert leave is not None
    for name in ("first", "second", "third"):
        turns.run("flood", loop.piece(name))
    assert await loop.run(10) == [["first"]]
    time[0] += fair_turns.HOLD_S
    turns._end_hold()
    assert await loop.run(10) == [["first"], ["second"]], "one from time to time"
    leave()
    assert await loop.run(10) == [["first"], ["second"], ["third"]]
