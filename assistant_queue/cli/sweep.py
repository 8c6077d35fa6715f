"""`assistant-queue sweep`: the sidecar that lets no thread be forgotten."""

from __future__ import annotations

import logging
import signal
import threading

import click

from assistant_queue.cli.options import Where, redis_name, where_options
from assistant_queue.cli.output import echo_json, json_option
from assistant_queue.cli.problems import Misuse
from assistant_queue.clock import SystemClock
from assistant_queue.store.calls import Space
from assistant_queue.store.stores import SyncStore
from assistant_queue.store.sweeping import sweep as sweep_once
from assistant_queue.worker.runtime import worker_sync_client
from assistant_queue.worker.watchman import Watchman


@click.command(short_help="Sidecar: wake the threads that nobody looks at.")
@click.option("--once", is_flag=True, help="Look once at the overdue threads (at most 100, longest overdue first) and say what was seen.")
@json_option
@where_options
def sweep(where: Where, once: bool, as_json: bool) -> None:
    """Wake the threads that nobody looks at, about once a second, until a signal.

    Our workers do this themselves. Run one of these beside truly stock `rq worker` processes: then a lost job, a dead worker or a dead
    scheduler costs a thread no more than its lease and two seconds. Any number may run.

    \b
    assistant-queue sweep --prefix assistant
    assistant-queue sweep --once --json

    Exit codes: 0 done, or ended by SIGTERM or Ctrl-C, 2 an option is wrong, 3 Redis did not answer at the start.
    """  # noqa: D301
    if as_json and not once:
        raise Misuse("--json belongs to --once: the sidecar has nothing to report")
    config = where.config()
    space = Space(config.queue_prefix, SystemClock())
    client = worker_sync_client(config)
    try:
        swept = SyncStore(client, spaces=(space,)).run(sweep_once(space))
        if not once:
            _watch(Watchman(space, client), f"sweeping queue {config.queue_prefix} at {redis_name(config)}")
        elif as_json:
            echo_json(swept)
        else:
            click.echo(f"{swept.overdue} overdue, {swept.woken} woken")
    finally:
        client.close()


def _watch(watchman: Watchman, title: str) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    watchman.start()
    click.echo(title)
    stopped.wait()
    watchman.stop()
