"""`assistant-queue audit`: the tables of the audit, and what waits for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from assistant_queue.cli.exit_errors import Misuse
from assistant_queue.cli.output import echo_json, json_option
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.store.ops.audit_spool import read_spool


@click.group(short_help="Make the tables of the audit, or show what waits for them.")
def audit() -> None:
    """Make the tables of the audit, or show what waits for them.

    \b
    assistant-queue audit upgrade --app bot:queue
    assistant-queue audit upgrade --url postgresql+psycopg://audit@db/audit
    assistant-queue audit status --app bot:queue

    Exit codes: 0 done, 1 the database did not answer, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301


@audit.command(short_help="Make the tables, or bring them to this version.")
@click.option(
    "--url",
    metavar="URL",
    help="The database, as SQLAlchemy reads it. Default: that of the app's option audit.",
)
@where_options
def upgrade(*, url: str | None, where: Where) -> None:
    """Make the tables of the audit, or bring them to this version; no batch is changed.

    Workers that run meanwhile leave their batches in Redis, and write them when the tables are
    there.

    Exit codes: 0 done (also if nothing was to do), 1 the database did not answer, 2 an option is
    wrong.
    """
    sink = _sink(url, where)
    before = sink.upgrade()
    now = sink.version()
    sink.close()
    click.echo(f"version {now}" if before == now else f"version {before} -> {now}")


@audit.command(short_help="Show what waits for the database, and what was lost.")
@json_option
@where_options
def status(*, where: Where, as_json: bool) -> None:
    """Show how many batches wait in Redis for the database, and how many were lost, ever.

    Exit codes: 0 shown, 2 an option is wrong, 3 Redis did not answer.
    """
    with where.queue() as queue:
        found = queue.core.store.run(read_spool(queue.core.namespace))
    if as_json:
        echo_json(dataclasses.asdict(found))
    else:
        click.echo(f"{found.waiting} waiting, {found.lost} lost")


def _sink(url: str | None, where: Where) -> Any:
    """Return the sink to upgrade.

    Raises:
        Misuse: Neither the option nor the app names one.
    """
    if url is not None:
        from assistant_queue.integrations.audit import SqlAudit

        return SqlAudit(url)
    found = where.config().audit
    if found is None or not hasattr(found, "upgrade"):
        raise Misuse("give --url, or an --app with the option audit")
    return found
