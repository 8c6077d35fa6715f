"""`assistant-queue take-over` and `hand-back`: a person answers a thread instead of the model."""

from __future__ import annotations

import click

from assistant_queue.cli.dashed_arguments import Command
from assistant_queue.cli.exit_errors import Problem
from assistant_queue.cli.recording import recorded_command
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.errors import ThreadTakenOver


@click.command(cls=Command, short_help="Have a person answer a thread instead of the model.")
@click.argument("thread_id")
@click.option("--by", metavar="NAME", required=True, help="The person that answers.")
@click.option("--instead-of", metavar="NAME", help="The person that answers it until now.")
@click.option(
    "--let-end", is_flag=True, help="An answer that is under way ends first; else it is stopped."
)
@where_options
def take_over(
    *, thread_id: str, by: str, instead_of: str | None, let_end: bool, where: Where
) -> None:
    """Take over a thread: the model answers nothing more, and a person does, with `say`.

    \b
    assistant-queue take-over thread-123 --by Jo
    assistant-queue take-over thread-123 --by Ann --instead-of Jo

    Exit codes: 0 that person answers, 1 another person does, 2 an option is wrong, 3 Redis did not
    answer.
    """  # noqa: D301
    with where.queue() as queue:
        try:
            with recorded_command(queue, "take_over", thread_id, person=by) as outcome:
                outcome.done = queue.take_over(
                    thread_id, by, instead_of=instead_of, stop=not let_end
                )
        except ThreadTakenOver as error:
            raise Problem(f"{error}: --instead-of {error.by!r}") from error
    click.echo(f"{thread_id} is answered by {by}")


@click.command(cls=Command, short_help="Have the model answer a thread again.")
@click.argument("thread_id")
@where_options
def hand_back(*, thread_id: str, where: Where) -> None:
    """Hand back a thread: the model answers what came after the person's last words.

    \b
    assistant-queue hand-back thread-123

    Exit codes: 0 the model answers, 1 no person did, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        with recorded_command(queue, "hand_back", thread_id) as outcome:
            outcome.done = queue.hand_back(thread_id)
        if not outcome.done:
            raise Problem(f"{thread_id}: no person answers it")
    click.echo(f"{thread_id} is answered by the model")


@click.command(cls=Command, short_help="Say something in a thread, without a run.")
@click.argument("thread_id")
@click.argument("text")
@click.option("--author", metavar="NAME", help="The author, for subscribers.")
@click.option("--notice", is_flag=True, help="The model does not see it.")
@where_options
def say(*, thread_id: str, text: str, author: str | None, notice: bool, where: Where) -> None:
    """Say a text in a thread: on its platform and to its subscribers, at once.

    The model reads it as its own. In a thread that is taken over it answers what waits.

    \b
    assistant-queue say thread-123 "Jo here: it left this morning." --author Jo
    assistant-queue say thread-123 "We are closed today." --notice

    Exit codes: 0 said, 1 this backend cannot have it, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue, recorded_command(queue, "say", thread_id):
        receipt = queue.say(thread_id, text, author=author, kind="notice" if notice else "reply")
    click.echo(f"said as {receipt.message_id}")
