"""Recipes for bots and web apps, run against stand-ins of frameworks that are not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant_queue import AsyncAssistantMessageQueue
from assistant_queue.testing.rehearsal import Rehearsal
from tests.docs.blocks import blocks_of
from tests.docs.generated import ROOT

LONG = "\n\n".join(
    f"Paragraph {number}: " + "words and more words 🙈 " * 20 for number in range(30)
)


def recipe(word: str) -> str:
    """The code of the block that has this word."""
    (block,) = [block for block in blocks_of(ROOT / "docs/asyncio.md", ROOT) if word in block.code]
    return block.code


def pieces() -> Callable[[str, int], Iterator[str]]:
    namespace: dict[str, Any] = {}
    exec(recipe("def pieces("), {"print": lambda *_: None}, namespace)
    found: Callable[[str, int], Iterator[str]] = namespace["pieces"]
    return found


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


WORDS = st.lists(
    st.sampled_from(["a", "words", "🙈🙈", "x" * 90, "\n", "\n    indented", "```", "```py\n"]),
    max_size=80,
)


@given(WORDS, st.sampled_from([60, 200, 4096]))
@settings(max_examples=300, deadline=None)
def test_pieces_hold_the_whole_text_and_none_is_too_long(words: list[str], limit: int) -> None:
    text = " ".join(words)
    found = list(pieces()(text, limit))
    assert [units(piece) for piece in found if units(piece) > limit] == []
    assert all(piece.strip() for piece in found)
    plain = "".join("".join(found).replace("```", "").split())
    assert plain == "".join(text.replace("```", "").split())


def test_a_text_is_cut_at_the_end_of_a_line_and_code_stays_code() -> None:
    assert list(pieces()("short", 2000)) == ["short"]
    assert list(pieces()("", 2000)) == list(pieces()(" \n", 2000)) == []
    found = list(pieces()(LONG, 2000))
    assert len(found) > 5
    assert all(piece.lstrip().startswith("Paragraph") for piece in found)
    code = (
        "Look:\n```\n"
        + "\n".join(f"    line({number})" for number in range(300))
        + "\n```\nThat is all."
    )
    cut = list(pieces()(code, 500))
    assert all(piece.count("```") == 2 for piece in cut[:-1])
    assert all(piece.startswith("```\n    line(") for piece in cut[1:-1])


@pytest.fixture
def module(
    monkeypatch: pytest.MonkeyPatch, reader: Callable[[str], dict[str, Any]]
) -> Callable[..., ModuleType]:
    """Puts a module where recipes import it."""

    def put(name: str, **names: Any) -> ModuleType:
        made = ModuleType(name)
        vars(made).update(names)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    put("pieces", pieces=pieces())
    return put


class Bot:
    def __init__(self, token: str) -> None:
        self.sent: list[tuple[int, str]] = []

    async def send_message(self, chat_id: int, text: str) -> None:
        assert 0 < units(text) <= 4096
        self.sent.append((chat_id, text))


class Dispatcher:
    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def __getattr__(self, event: str) -> Any:
        def register(function: Any) -> Any:
            self.handlers[event] = function
            return function

        return lambda *_: register

    def run_polling(self, bot: Bot) -> None:
        pass


def update(number: int, text: str) -> Any:
    return SimpleNamespace(
        chat=SimpleNamespace(id=-1001234),
        message_id=number,
        text=text,
        from_user=SimpleNamespace(full_name="Ann"),
    )


async def test_the_telegram_bot_sends_long_replies_whole_and_takes_edits(
    module: Callable[..., ModuleType],
) -> None:
    module("aiogram.types", Message=object)
    module("aiogram", Bot=Bot, Dispatcher=Dispatcher)
    recipe_names: dict[str, Any] = {}
    exec(recipe("from aiogram import"), recipe_names)
    bot = recipe_names["bot"]
    handlers = recipe_names["dispatcher"].handlers
    queue = recipe_names["queue"]
    with Rehearsal(queue, lambda turn: f"{turn.user_texts} {LONG}") as play:
        recipe_names["queue"] = Awaited(play.queue)
        await handlers["message"](update(1, "Hello"))
        await handlers["message"](update(2, "an eror"))
        await handlers["edited_message"](update(2, "an error"))
        await handlers["message"](
            update(1, "Hello again")
        )  # the update comes once more, edited meanwhile
        await handlers["edited_message"](update(7, "never seen"))
        await play.arun_until_idle()
        await handlers["edited_message"](update(2, "too late"))
        await play.arun_until_idle()
    assert len(bot.sent) > 3
    assert {chat for chat, _ in bot.sent} == {-1001234}
    whole = "\n".join(text for _, text in bot.sent)
    assert whole.split() == f"('Ann: Hello again', 'Ann: an error') {LONG}".split()
    await queue.close()


class Awaited:
    """A blocking queue behind the asyncio face, as the recipe calls it."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(self._queue, name)(*args, **kwargs)

        return call


async def test_the_discord_bot_sends_long_replies_whole(module: Callable[..., ModuleType]) -> None:
    sent: list[str] = []

    class Channel:
        async def send(self, text: str) -> None:
            assert 0 < units(text) <= 2000
            sent.append(text)

    class Client:
        def __init__(self, *, intents: Any, allowed_mentions: Any) -> None:
            assert intents.message_content
            assert allowed_mentions == "none"

        def run(self, token: str) -> None:
            made.append(self)

        async def fetch_channel(self, number: int) -> Channel:
            assert number == 42
            return Channel()

    made: list[Any] = []
    intents = SimpleNamespace(default=SimpleNamespace)
    module(
        "discord",
        Client=Client,
        Intents=intents,
        AllowedMentions=SimpleNamespace(none=lambda: "none"),
    )
    exec(recipe("import discord"), {})
    (client,) = made
    async with AsyncAssistantMessageQueue(
        model="any", message_delay=0, on_reply=client.send
    ) as queue:
        with Rehearsal(queue, lambda _: LONG) as play:
            play.say("42", "Hello")
            await play.arun_until_idle()
    assert len(sent) > 5
    assert "\n".join(sent).split() == LONG.split()


def test_the_web_app_answers_and_says_when_an_id_is_taken(
    module: Callable[..., ModuleType],
) -> None:
    recipe_names: dict[str, Any] = {"__name__": "recipe"}
    exec(recipe("app = FastAPI(lifespan=lifespan)"), recipe_names)
    with TestClient(recipe_names["app"]) as client:
        said = {"text": "Hello", "message_id": "web-1"}
        taken = client.post("/threads/ann/messages", json=said)
        assert (taken.status_code, taken.json()["message_id"]) == (202, "web-1")
        assert client.post("/threads/ann/messages", json=said).json()["duplicate"]
        assert (
            client.post("/threads/ann/messages", json={**said, "text": "Hello!"}).status_code == 409
        )
        assert client.post("/threads/ann/messages", json={**said, "text": " "}).status_code == 422
        assert client.get("/messages/web-1/reply").json() == {"reply": "You said: Hello"}
        assert client.get("/messages/web-2/reply").status_code == 404
