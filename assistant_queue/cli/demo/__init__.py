"""`assistant-queue demo`: the whole library at work, without Redis, API key or account."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from assistant_queue.cli.exit_errors import FAILED, Misuse
from assistant_queue.cli.output import echo_json, json_option
from assistant_queue.cli.shared_options import Number
from assistant_queue.errors import MissingExtra


@click.command(short_help="See it all work: no Redis, no key, no account needed.")
@click.option(
    "--input",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Play your own messages instead of the scene.",
)
@click.option(
    "--speed",
    type=Number(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="So many times faster than they were said.",
)
@click.option(
    "--window",
    type=Number(min=0),
    metavar="SECONDS",
    help="How long a message waits for others, at any speed. [default: 1.5; --web: 4]",
)
@click.option(
    "--web",
    is_flag=True,
    help="The pages instead of the scene: prints their addresses, and runs until Ctrl-C.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    help="With --web: the page's port. [default: a free one]",
)
@click.option(
    "--workers", type=click.IntRange(1, 32), default=2, show_default=True, help="Worker processes."
)
@click.option(
    "--protocol",
    type=click.Choice(["responses", "assistants"]),
    default="responses",
    show_default=True,
    help="Which of the provider's APIs.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Play against the real service, with OPENAI_API_KEY; this costs money.",
)
@click.option("--model", metavar="NAME", help="With --live: the model to ask.")
@click.option(
    "--channel",
    type=click.Choice(["telegram"]),
    help="The people write on a fake of this platform, which misbehaves in between.",
)
@json_option
def demo(
    *,
    path: Path | None,
    speed: float,
    window: float | None,
    web: bool,
    port: int | None,
    workers: int,
    protocol: str,
    live: bool,
    model: str | None,
    channel: str | None,
    as_json: bool,
) -> None:
    """Play a scene of busy conversations, show it live, and check the outcome against the provider's own log.

    Starts a private Redis (a server on the PATH, else the one of an installed wheel, else fakeredis), a strict stand-in for the
    provider, and two real worker processes. People write in bursts, in the middle of runs, and ask for what takes a tool; the provider
    refuses one request and fails one run. At the end nothing may be lost, doubled or out of order - by the provider's account, not
    by ours. It takes about 15 seconds and leaves nothing behind.

    \b
    assistant-queue demo
    assistant-queue demo --web
    assistant-queue demo --channel telegram
    assistant-queue demo --input examples/conversations.jsonl --speed 20
    OPENAI_API_KEY=... assistant-queue demo --live --model gpt-5-mini

    With --channel telegram the people are in chats of a strict fake of Telegram, which refuses requests (429), loses answers and is away
    for two seconds; each part of each reply has to be on its screen once. Replies that a platform cannot be asked about are parked,
    and the demo settles them as an operator would.

    A line of --input is one message: {"t": seconds, "thread": "...", "text": "...", "author": "..."}; author may be left out. With
    --live there is no stand-in to ask, so that the verdict comes from the queue's own records, and says so. The queue's own variables,
    such as ASSISTANT_QUEUE_MESSAGE_DELAY, are not read: what is played is the same on every machine.

    Exit codes: 0 every message was answered once and in order, 1 not so, or interrupted, 2 an option or a line of the input
    is wrong (nothing was started).
    """  # noqa: D301
    if model is not None and not live:
        raise Misuse("--model belongs to --live: the stand-in has no other models")
    if port is not None and not web:
        raise Misuse("--port belongs to --web: the scene has no page")
    if web and (path is not None or as_json):
        raise Misuse("--web is for people at a page: leave out --input and --json")
    if web and channel is not None:
        raise Misuse("--channel belongs to the scene: leave out --web")
    _need_testing(channel)
    if web:
        _run_web(
            cast("Literal['responses', 'assistants']", protocol),
            port=port or 0,
            workers=workers,
            model=model if live else None,
            live=live,
            window=window,
        )
        return
    from assistant_queue.cli.demo.lines import read_lines
    from assistant_queue.cli.demo.play import WINDOW_S, run_demo
    from assistant_queue.cli.demo.scene import own_scene, the_scene
    from assistant_queue.cli.demo.stand_in import live_service
    from assistant_queue.cli.demo.view import make_view

    scene = (
        the_scene(has_long_reply=channel is not None)
        if path is None
        else own_scene(path.name, read_lines(path))
    )
    if channel is not None:
        from assistant_queue.cli.demo.telegram_entrance import on_telegram

        scene = on_telegram(scene)
    chosen = cast("Literal['responses', 'assistants']", protocol)
    service = live_service(chosen, model) if live else None
    view = make_view(quiet=as_json)
    window_s = WINDOW_S if window is None else window
    verdict = run_demo(
        scene,
        view,
        speed=speed,
        workers=workers,
        protocol=chosen,
        service=service,
        window_s=window_s,
        on_platform=channel is not None,
    )
    if as_json:
        echo_json(verdict.as_dict())
    else:
        view.show_verdict(verdict)
    if not verdict.holds:
        raise click.exceptions.Exit(FAILED)


def _run_web(
    protocol: Literal["responses", "assistants"],
    *,
    port: int,
    workers: int,
    model: str | None,
    live: bool,
    window: float | None,
) -> None:
    from assistant_queue.cli.demo.stand_in import live_service
    from assistant_queue.cli.demo.web import WINDOW_S, run_web

    window_s = WINDOW_S if window is None else window
    run_web(
        protocol,
        live_service(protocol, model) if live else None,
        port=port,
        workers=workers,
        window_s=window_s,
    )


def _need_testing(channel: str | None) -> None:
    try:
        import starlette
        import uvicorn
    except ImportError as error:
        raise Misuse(f"the demo needs {error.name}: pip install 'assistant-queue[demo]'") from error
    del starlette, uvicorn
    if channel is not None:
        from assistant_queue.channels.splitting import check_installed

        try:
            check_installed()
        except MissingExtra as error:
            raise Misuse(f"--channel {channel}: {error}") from error
