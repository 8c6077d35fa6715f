"""`assistant-queue sweep`: a sidecar that wakes overdue threads."""

from __future__ import annotations

import logging
import signal
import threading

import click

from assistant_queue.cli.exit_errors import Misuse
from assistant_queue.cli.output import echo_json, json_option
from assistant_queue.cli.shared_options import Where, redis_name, where_options
from assistant_queue.clock import SystemClock
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops.sweeping import sweep as sweep_once
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.worker.runtime import worker_sync_client
from assistant_queue.worker.scheduler import Scheduler


@click.command(short_help="Sidecar: wake overdue threads.")
@click.option(
    "--once",
    is_flag=True,
    help="Sweep once (at most 100 threads, longest overdue first) and print what was found.",
)
@json_option
@where_options
def sweep(where: Where, once: bool, as_json: bool) -> None:
    """Wake overdue threads, about once a second, until a signal.

    The workers of this package do this themselves. Run a sidecar beside stock `rq worker`
    processes: a lost job, a dead worker or a dead scheduler then delays a thread by no more than
    its lease and two seconds. Any number may run.

    \b
    assistant-queue sweep --prefix assistant
    assistant-queue sweep --once --json

    Exit codes: 0 done, or ended by SIGTERM or Ctrl-C, 2 an option is wrong, 3 Redis did not answer
    at the start.
    """  # noqa: D301
    if as_json and not once:
        raise Misuse("--json requires --once: without it there is nothing to print")
    config = where.config()
    namespace = Namespace(config.queue_prefix, SystemClock())
    client = worker_sync_client(config)
    try:
        swept = SyncStore(client, namespaces=(namespace,)).run(sweep_once(namespace))
        if not once:
            _watch(
                Scheduler(namespace, client),
                f"sweeping queue {config.queue_prefix} at {redis_name(config)}",
            )
        elif as_json:
            echo_json(swept)
        else:
            click.echo(f"{swept.overdue} overdue, {swept.woken} woken")
    finally:
        client.close()


def _watch(scheduler: Scheduler, title: str) -> None:
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    scheduler.start()
    click.echo(title)
    stopped.wait()
    scheduler.stop()
