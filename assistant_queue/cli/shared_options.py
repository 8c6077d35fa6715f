"""The options that select a queue, which commands share, and the queue they select."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from assistant_queue.cli.exit_errors import Misuse
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.config import Config, configure
from assistant_queue.config.protocol import name_of_backend
from assistant_queue.errors import StoreUnavailable
from assistant_queue.store.ops.server_info import refuse_any_cluster
from assistant_queue.worker.app_loader import APP_VARIABLE, load_app

Command = TypeVar("Command", bound=Callable[..., Any])

APP_HELP = (
    "Your queue object as module:attribute, such as myapp:queue. "
    f"Default: {APP_VARIABLE}, else a queue from the environment."
)


ENV_FILE = ".env"
"""The file with variables that `serve` reads in its working directory, if it is there."""


class Number(click.FloatRange):
    """A finite number within bounds: neither `nan` nor `inf`."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; fails on `nan` and `inf`."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no number to count with.", param, ctx)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The shared options; None for an option that was not given."""

    app: str | None = None
    redis_url: str | None = None
    prefix: str | None = None

    def over(self, outer: Where | None) -> Where:
        """Return these options, completed from those of the group around the command."""
        if outer is None:
            return self
        return Where(
            app=self.app or outer.app,
            redis_url=self.redis_url or outer.redis_url,
            prefix=self.prefix or outer.prefix,
        )

    def config(self) -> Config:
        """Return the app's or the environment's options, overridden by those given here.

        Raises:
            ConfigurationError: The app cannot be loaded, or an option is wrong.
        """
        config = load_app(self.app)
        if self.redis_url is None and self.prefix is None:
            return config
        options = {name: getattr(config, name) for name in config.model_fields_set}
        if self.redis_url is not None:
            options.update(redis_url=self.redis_url, redis=None)
        if self.prefix is not None:
            options.update(queue_prefix=self.prefix)
        return configure(options)

    def options(self) -> dict[str, Any]:
        """Return the queue's options as keywords; raises as `config` does."""
        config = self.config()
        return {name: getattr(config, name) for name in config.model_fields_set}

    def queue(self) -> AssistantMessageQueue:
        """Return the queue object, which the caller closes.

        Raises:
            ConfigurationError: As `config` does, or Redis is a cluster.
            StoreUnavailable: Redis did not answer.
        """
        options = self.options()
        if self.app is None and not os.environ.get(APP_VARIABLE):
            # Without an app only the place of the queue is known: leave its fingerprint to its
            # producers, or its workers would refuse another one.
            options.update(model=None, prompt=None, assistant_id=None)
        queue = AssistantMessageQueue(**options)
        try:
            with contextlib.suppress(StoreUnavailable):  # reported by the command itself
                queue.core.store.run(refuse_any_cluster())
        except BaseException:
            queue.close()
            raise
        return queue


def app_option(command: Command) -> Command:
    """Give a command `--app`."""
    return click.option("--app", metavar="MODULE:ATTR", help=APP_HELP)(command)


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines of text, or of JSON with the fields of docs/logs.md.",
)


def env_file_option(default: str = "") -> Callable[[Command], Command]:
    """Return a decorator that gives a command `--env-file`, read before every other option."""
    return click.option(
        "--env-file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        default=default,
        show_default=bool(default),
        is_eager=True,
        expose_value=False,
        callback=_read_env_file,
        help="Read variables from this file; those of the environment come first.",
    )


def _read_env_file(ctx: click.Context, param: click.Parameter, value: str) -> None:
    """Add the variables of a file to the environment.

    Raises:
        Misuse: The file was named and cannot be read, or is not UTF-8.
    """
    if not value or ctx.resilient_parsing:
        return
    is_named = ctx.get_parameter_source(str(param.name)) is not ParameterSource.DEFAULT
    if not is_named and not Path(value).is_file():
        return
    from dotenv import dotenv_values

    try:
        with Path(value).open(encoding="utf-8") as file:
            found = dotenv_values(stream=file)
    except OSError as error:
        raise Misuse(f"--env-file {value!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misuse(f"--env-file {value!r} is not UTF-8") from None
    for name, said in found.items():
        if said is not None:
            os.environ.setdefault(name, said)


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--app`, `--redis-url` and `--prefix`, as one argument `where`."""

    @app_option
    @click.option(
        "--redis-url",
        metavar="URL",
        help="The URL of Redis. Default: the app's, else REDIS_URL (for a URL with a password).",
    )
    @click.option(
        "--prefix",
        metavar="NAME",
        help="The queue's prefix. Default: the app's, else ASSISTANT_QUEUE_QUEUE_PREFIX, "
        "else assistant.",
    )
    @functools.wraps(command)
    def packed(
        *args: Any, app: str | None, redis_url: str | None, prefix: str | None, **options: Any
    ) -> Any:
        return command(*args, where=Where(app=app, redis_url=redis_url, prefix=prefix), **options)

    return packed


def redis_name(config: Config) -> str:
    """Return the address of Redis for output: without user and password."""
    if config.redis is not None:
        kwargs = config.redis.connection_pool.connection_kwargs
        place = (
            kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        )
        return f"redis at {place}/{kwargs.get('db', 0)}"
    parts = urlsplit(config.redis_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def backend_name(config: Config) -> str:
    """Return the name of the backend of this queue's workers."""
    if config.backend is not None:
        return name_of_backend(config.backend)
    if config.assistant_id is not None:
        return f"assistants ({config.assistant_id})"
    return f"{config.protocol or 'responses'} ({config.model or 'a stored prompt'})"
