"""Recipes for bots and web apps, run against stand-ins of frameworks that are not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from assistant_queue import AsyncAssistantMessageQueue, channels
from assistant_queue.testing.channels import StandInTelegram
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


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


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

    return put


class Dispatcher:
    """Calls handlers as aiogram does: the first that was registered for the kind of update."""

    def __init__(self) -> None:
        self.handlers: list[tuple[str, tuple[Any, ...], Any]] = []
        self.polled: list[Any] = []

    def __getattr__(self, event: str) -> Any:
        def registering(*filters: Any) -> Any:
            def register(function: Any) -> Any:
                self.handlers.append((event, filters, function))
                return function

            return register

        return registering

    async def feed(self, update: dict[str, Any]) -> None:
        (kind,) = update.keys() - {"update_id"}
        text = update[kind]["text"]
        taken = SimpleNamespace(answer=self.polled.append)
        for event, filters, function in self.handlers:
            if event == kind and all(text == f"/{name}" for name in filters):
                await function(taken, event_update=Update(update))
                return

    def run_polling(self, bot: Any, *, handle_as_tasks: bool) -> None:
        assert not handle_as_tasks, "two updates at once change their order"
        self.polled.append(bot)


class Update:
    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def model_dump(self, *, mode: str, by_alias: bool, exclude_unset: bool) -> dict[str, Any]:
        assert (mode, by_alias, exclude_unset) == ("json", True, True), "aiogram cannot do it else"
        return self._content


async def test_the_telegram_bot_answers_and_takes_edits(
    module: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    with StandInTelegram() as platform:
        at_the_fake = partial(channels.Telegram, api_url=platform.url)
        monkeypatch.setattr(channels, "Telegram", at_the_fake, raising=False)
        monkeypatch.setenv("TELEGRAM_TOKEN", platform.token)
        module("aiogram.types", Message=object, Update=object)
        module("aiogram.filters", Command=lambda name: name)
        module("aiogram", Bot=lambda token: token, Dispatcher=Dispatcher)
        names: dict[str, Any] = {}
        exec(recipe("from aiogram import"), names)
        dispatcher = names["dispatcher"]
        queue = names["queue"]
        assert dispatcher.polled == [platform.token]

        def edited(update: dict[str, Any], text: str) -> dict[str, Any]:
            return {"update_id": 99, "edited_message": {**update["message"], "text": text}}

        hello = platform.update_of(5, "Hello")
        wrong = platform.update_of(5, "an eror")
        play = Rehearsal(queue, lambda turn: f"{turn.user_texts} {LONG}")
        with play, play.patched(queue):
            await dispatcher.feed(hello)
            await dispatcher.feed(wrong)
            await dispatcher.feed(hello)
            await dispatcher.feed(edited(wrong, "an error"))
            await dispatcher.feed(wrong)
            await dispatcher.feed(edited(platform.update_of(5, "x"), "never seen"))
            await play.arun_until_idle()
            await dispatcher.feed(edited(wrong, "too late"))
            await play.arun_until_idle()
        shown = platform.chat(5).shown
        assert len(shown) > 3
        assert all(units(text) <= 4096 for text in shown)
        assert " ".join(shown).split() == f"('Ann: Hello', 'Ann: an error') {LONG}".split()
        await queue.close()


class DiscordChat:
    """A chat of a Discord that takes 2,000 characters."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.was_typing = False
        self.refuses: Exception | None = None

    async def send(self, text: str) -> Any:
        if self.refuses is not None:
            raise self.refuses
        return self._put(len(self.texts) + 1, text)

    def get_partial_message(self, number: int) -> Any:
        async def edit(content: str) -> Any:
            return self._put(number, content)

        return SimpleNamespace(edit=edit)

    async def typing(self) -> None:
        self.was_typing = True

    def _put(self, number: int, text: str) -> Any:
        assert 0 < len(text) <= 2000
        self.texts[number] = text
        return SimpleNamespace(id=number)


class HTTPException(Exception):
    def __init__(self, status: int = 0) -> None:
        super().__init__(status)
        self.status = status


class DiscordServerError(HTTPException):
    pass


@pytest.fixture
def discord_client(module: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch) -> Any:
    chat = DiscordChat()
    made: list[Any] = []

    class Client:
        def __init__(self, *, intents: Any, allowed_mentions: Any) -> None:
            assert intents.message_content
            assert allowed_mentions == "none"
            self.user = "the bot"
            self.chat = chat

        def run(self, token: str) -> None:
            made.append(self)

        def get_partial_messageable(self, number: int) -> DiscordChat:
            assert number == 42
            return chat

        async def close(self) -> None:
            pass

    monkeypatch.setenv("DISCORD_TOKEN", "t")
    module(
        "discord",
        Client=Client,
        Intents=SimpleNamespace(default=SimpleNamespace),
        AllowedMentions=SimpleNamespace(none=lambda: "none"),
        HTTPException=HTTPException,
        DiscordServerError=DiscordServerError,
    )
    names: dict[str, Any] = {}
    exec(recipe("import discord"), names)
    (client,) = made
    client.chats = names["Discord"](client)
    client.chats.limits = replace(client.chats.limits, edits_interval=0.01)
    client.queue = AsyncAssistantMessageQueue(model="any", message_delay=4, channels=[client.chats])
    return client


def written(number: int, text: str, **more: Any) -> Any:
    author = SimpleNamespace(bot=False, display_name="Ann")
    plain = {"author": author, "mentions": [], "reference": None, "guild": None}
    channel = SimpleNamespace(id=42)
    return SimpleNamespace(**{**plain, "id": number, "channel": channel, "content": text, **more})


async def test_the_discord_bot_answers_and_takes_edits_and_deletions(discord_client: Any) -> None:
    client = discord_client
    play = Rehearsal(client.queue, lambda turn: f"{turn.user_texts} {LONG}")
    with play, play.patched(client.queue):
        await client.on_message(written(1, "Hello"))
        await client.on_message(written(2, "an eror"))
        await client.on_message(written(2, "an eror"))
        await client.on_message_edit(None, written(2, "an error"))
        await client.on_message(written(3, "oops"))
        await client.on_raw_message_delete(SimpleNamespace(message_id=3, channel_id=42))
        bot = SimpleNamespace(bot=True, display_name="Bot")
        await client.on_message(written(4, "from a bot", author=bot))
        await play.arun_until_idle()
    assert len(client.chat.texts) > 5
    whole = " ".join(client.chat.texts.values())
    assert whole.split() == f"('Ann: Hello', 'Ann: an error') {LONG}".split()
    assert client.chat.was_typing
    await client.queue.close()


async def test_on_a_server_the_discord_bot_answers_messages_that_mention_it(
    discord_client: Any,
) -> None:
    client = discord_client
    play = Rehearsal(client.queue, lambda turn: f"{turn.user_texts}")
    with play, play.patched(client.queue):
        await client.on_message(written(1, "just talking", guild=1))
        await play.arun_until_idle()
        assert client.chat.texts == {}
        await client.on_message(written(2, "and you?", guild=1, mentions=["the bot"]))
        await play.arun_until_idle()
        assert client.chat.texts == {1: "('Ann: just talking', 'Ann: and you?')"}
        replied = SimpleNamespace(resolved=SimpleNamespace(author="the bot"))
        await client.on_message(written(3, "why?", guild=1, reference=replied))
        await play.arun_until_idle()
        assert len(client.chat.texts) == 2
    await client.queue.close()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DiscordServerError(502), channels.PartUnknown("Discord answered 502")),
        (HTTPException(403), channels.PartNotSent("Discord answered 403", final=True)),
        (HTTPException(400), channels.PartNotSent("Discord answered 400")),
    ],
)
async def test_the_discord_bot_says_what_a_refusal_means(
    discord_client: Any, error: Exception, outcome: Any
) -> None:
    discord_client.chat.refuses = error
    assert await discord_client.chats.send("42", channels.Part(text="hi")) == outcome
    await discord_client.queue.close()


def test_the_web_app_answers_and_takes_the_same_id_with_another_text_as_an_edit(
    module: Callable[..., ModuleType],
) -> None:
    recipe_names: dict[str, Any] = {"__name__": "recipe"}
    exec(recipe("app = FastAPI(lifespan=lifespan)"), recipe_names)
    with TestClient(recipe_names["app"]) as client:
        said = {"text": "Hello", "message_id": "web-1"}
        taken = client.post("/threads/ann/messages", json=said)
        assert (taken.status_code, taken.json()["message_id"]) == (202, "ann:web-1")
        assert client.post("/threads/ann/messages", json=said).json()["duplicate"]
        again = client.post("/threads/ann/messages", json={**said, "text": "Hello!"})
        assert (again.status_code, again.json()) == (
            200,
            {"message_id": "ann:web-1", "edited": True},
        )
        other = client.post("/threads/ben/messages", json={**said, "text": "mine"})
        assert (other.status_code, other.json()["message_id"]) == (202, "ben:web-1")
        assert client.post("/threads/ann/messages", json={**said, "text": " "}).status_code == 422
        assert client.get("/messages/ann:web-1/reply").json() == {"reply": "You said: Hello!"}
        late = client.post("/threads/ann/messages", json={**said, "text": "too late"})
        assert (late.status_code, late.json()["edited"]) == (200, False)
        assert client.get("/messages/web-2/reply").status_code == 404
