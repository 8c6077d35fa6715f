"""Where the queue is: the options that commands share, and what becomes of them."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from assistant_queue.choices import name_of_backend
from assistant_queue.config import Config, configure
from assistant_queue.queue import AssistantMessageQueue
from assistant_queue.store.examining import refuse_any_cluster
from assistant_queue.worker.app import APP_VARIABLE, load_app

Command = TypeVar("Command", bound=Callable[..., Any])

APP_HELP = f"Your queue object as module:attribute, such as myapp:queue. Default: {APP_VARIABLE}, else a queue from the environment."


class Number(click.FloatRange):
    """A number within bounds that is one: neither `nan` nor `inf`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no number to count with.", param, ctx)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The shared options as they were given; None where they were not."""

    app: str | None = None
    redis_url: str | None = None
    prefix: str | None = None

    def over(self, outer: Where | None) -> Where:
        """These options, completed from those of the group around the command."""
        if outer is None:
            return self
        return Where(app=self.app or outer.app, redis_url=self.redis_url or outer.redis_url, prefix=self.prefix or outer.prefix)

    def config(self) -> Config:
        """The queue's options: the app's, or the environment's, and what was given here before both.

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
        """The queue's options as keywords; raises as `config` does."""
        config = self.config()
        return {name: getattr(config, name) for name in config.model_fields_set}

    def queue(self) -> AssistantMessageQueue:
        """Return the queue itself. Close it.

        Raises:
            ConfigurationError: As `config` does, or Redis is a cluster.
            StoreUnavailable: Redis did not answer.
        """
        options = self.options()
        if self.app is None and not os.environ.get(APP_VARIABLE):
            # Who only knows where the queue is leaves it to the app to say what it is: its workers would refuse another fingerprint.
            options.update(model=None, prompt=None, assistant_id=None)
        queue = AssistantMessageQueue(**options)
        try:
            with contextlib.suppress(StoreUnavailable):  # the command itself says that Redis is away, if it gets that far
                queue._store.run(refuse_any_cluster())  # noqa: SLF001 - the queue's own Redis
        except BaseException:
            queue.close()
            raise
        return queue


def app_option(command: Command) -> Command:
    """Give a command `--app`."""
    return click.option("--app", metavar="MODULE:ATTR", help=APP_HELP)(command)


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--app`, `--redis-url` and `--prefix`, as one argument `where`."""

    @app_option
    @click.option(
        "--redis-url", metavar="URL", help="Where Redis is. Default: the app's, else REDIS_URL (better for a URL with a password)."
    )
    @click.option(
        "--prefix", metavar="NAME", help="The queue's prefix. Default: the app's, else ASSISTANT_QUEUE_QUEUE_PREFIX, else assistant."
    )
    @functools.wraps(command)
    def packed(*args: Any, app: str | None, redis_url: str | None, prefix: str | None, **options: Any) -> Any:
        return command(*args, where=Where(app=app, redis_url=redis_url, prefix=prefix), **options)

    return packed


def redis_name(config: Config) -> str:
    """Where Redis is, for people: without user and password."""
    if config.redis is not None:
        kwargs = config.redis.connection_pool.connection_kwargs
        place = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        return f"redis at {place}/{kwargs.get('db', 0)}"
    parts = urlsplit(config.redis_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def backend_name(config: Config) -> str:
    """Which backend a worker of this queue has."""
    if config.backend is not None:
        return name_of_backend(config.backend)
    if config.assistant_id is not None:
        return f"assistants ({config.assistant_id})"
    return f"{config.protocol or 'responses'} ({config.model or 'a stored prompt'})"
