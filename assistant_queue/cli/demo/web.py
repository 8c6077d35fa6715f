"""`assistant-queue demo --web`: the pages and their back end on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import click

from assistant_queue.cli.demo.desk import Desk, add_desk
from assistant_queue.cli.demo.play import PREFIX
from assistant_queue.cli.demo.redis_server import private_redis
from assistant_queue.cli.demo.stand_in import DemoProvider
from assistant_queue.cli.demo.tools import TOOLS
from assistant_queue.cli.demo.worker_processes import worker_fleet
from assistant_queue.cli.output import shorten
from assistant_queue.cli.service_process import run
from assistant_queue.config import configure
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome

WINDOW_S = 4.0
"""Chosen: long enough to write three short messages, and to see the window fill."""
RATE_LIMIT = "120/minute"
"""Chosen: too short to notice."""
HOST = "127.0.0.1"
_ORDER = re.compile(r"#(\d{4,6})\b")
_SHOWN = 6
_HINTS = (
    "Write an order number such as `#4711` to see a tool call, `refund #4711` to see a question, or"
    " the word `fail` to see a failure."
)


def run_web(
    protocol: Literal["responses", "assistants"],
    service: DemoProvider | None,
    *,
    port: int,
    workers: int,
    window_s: float = WINDOW_S,
) -> None:
    """Serve the page until interrupted, with a private Redis, workers and the stand-in or a service.

    Raises:
        Problem: Something did not start; all that was started has been stopped.
    """
    with contextlib.ExitStack() as stack:
        url, kind = stack.enter_context(private_redis())
        chosen = service or _stand_in(stack, protocol)
        stand_in = chosen.stand_in
        click.echo(f"demo: {kind}, {chosen.name}, {workers} worker process{'es' * (workers != 1)}")
        variables = {
            "REDIS_URL": url,
            "ASSISTANT_QUEUE_DEMO": "1",
            "ASSISTANT_QUEUE_QUEUE_PREFIX": PREFIX,
            "ASSISTANT_QUEUE_CONCURRENCY": "50",
            "ASSISTANT_QUEUE_LOCK_DURATION": "5",
            "ASSISTANT_QUEUE_BACKOFF": json.dumps({"type": "exponential", "delay": 1}),
            **chosen.variables,
        }
        fleet = stack.enter_context(worker_fleet(workers, variables))
        desk = Desk(fleet=fleet, provider=chosen, protocol=protocol, window_s=window_s)
        if stand_in is not None:
            stand_in.model = desk.model(talk)
        config = configure(
            {
                "redis_url": url,
                "queue_prefix": PREFIX,
                "message_delay": window_s,
                "model": chosen.variables.get("ASSISTANT_QUEUE_MODEL"),
                "assistant_id": chosen.variables.get("OPENAI_ASSISTANT_ID"),
                "openai_api_key": chosen.variables.get("OPENAI_API_KEY"),
                "openai_base_url": chosen.variables.get("OPENAI_BASE_URL"),
                "tools": TOOLS,
            }
        )
        click.echo(
            "open the desk below, or the chat in two windows; Ctrl-C ends it and leaves nothing behind"
        )
        options = {"rate_limit": RATE_LIMIT, "allowed_hosts": ("127.0.0.1", "localhost")}
        asyncio.run(
            run(
                config,
                None,
                options,
                host=HOST,
                port=port,
                page=True,
                assistant_name="Robin",
                with_worker=False,
                beside=lambda app, made: add_desk(app, made, desk),
                also={"desk": "demo", "operations": "ops"},
            )
        )


def _stand_in(
    stack: contextlib.ExitStack, protocol: Literal["responses", "assistants"]
) -> DemoProvider:
    provider = stack.enter_context(StandInProvider(talk))
    which = (
        {"OPENAI_ASSISTANT_ID": provider.assistant_id}
        if protocol == "assistants"
        else {"ASSISTANT_QUEUE_MODEL": "stand-in-model"}
    )
    variables = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": provider.api_key, **which}
    return DemoProvider(
        name=f"stand-in provider ({protocol})", variables=variables, stand_in=provider
    )


def talk(turn: Turn) -> Outcome:
    """Return the stand-in model's reply to a visitor of the page."""
    said = "\n".join(turn.user_texts)
    if re.search(r"\bfail\b", said, re.IGNORECASE):
        return RunFailure(delay=0.8)
    orders = _ORDER.findall(said)
    if orders and not turn.tool_outputs:
        name = "refund" if re.search(r"\brefund\b", said, re.IGNORECASE) else "order_status"
        return ToolCalls([(name, {"order": order}) for order in dict.fromkeys(orders)], delay=0.8)
    if turn.tool_outputs:
        news = (json.loads(output.output) for output in turn.tool_outputs)
        return Reply("\n\n".join(map(_sentence, news)), chunks=16, delay=1.0)
    if len(turn.user_texts) == 1:
        heard = shorten(turn.user_texts[0], 80)
        return Reply(
            f"I read “{heard}”.\n\nSend two or three short messages at once: they get one answer. {_HINTS}",
            chunks=24,
            delay=1.6,
        )
    lines = "\n".join(f"- {shorten(text, 80)}" for text in turn.user_texts[:_SHOWN])
    count = len(turn.user_texts)
    return Reply(
        f"You wrote **{count} messages**, and this is one answer to all of them:\n\n{lines}\n\n{_HINTS}",
        chunks=40,
        delay=2.4,
    )


def _sentence(news: Mapping[str, Any]) -> str:
    """Return what an output says, or why there is none."""
    if "news" in news:
        return f"Order `{news['order']}` **{news['news']}**."
    return f"I did not do that: {news.get('error', 'it was not allowed')}."
