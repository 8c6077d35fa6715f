"""The `assistant-queue` command."""

from __future__ import annotations

import click

from assistant_queue import __version__
from assistant_queue.cli.exit_errors import EXIT_CODES
from assistant_queue.cli.lazy_group import LazyGroup

__all__ = ["main"]


COMMANDS = {
    "demo": "assistant_queue.cli.demo",
    "worker": "assistant_queue.cli.worker",
    "serve": "assistant_queue.cli.serve",
    "send": "assistant_queue.cli.send",
    "status": "assistant_queue.cli.status",
    "top": "assistant_queue.cli.top",
    "metrics": "assistant_queue.cli.show_metrics",
    "message": "assistant_queue.cli.message",
    "explain": "assistant_queue.cli.explain",
    "history": "assistant_queue.cli.thread_history",
    "threads": "assistant_queue.cli.threads",
    "thread": "assistant_queue.cli.manage",
    "events": "assistant_queue.cli.following",
    "feed": "assistant_queue.cli.following",
    "failed": "assistant_queue.cli.failed",
    "cancel": "assistant_queue.cli.manage",
    "pause": "assistant_queue.cli.manage",
    "resume": "assistant_queue.cli.manage",
    "flush": "assistant_queue.cli.manage",
    "stop": "assistant_queue.cli.manage",
    "approvals": "assistant_queue.cli.tool_answers",
    "approve": "assistant_queue.cli.tool_answers",
    "deny": "assistant_queue.cli.tool_answers",
    "answer": "assistant_queue.cli.tool_answers",
    "promote": "assistant_queue.cli.manage",
    "take-over": "assistant_queue.cli.takeover",
    "say": "assistant_queue.cli.takeover",
    "hand-back": "assistant_queue.cli.takeover",
    "forget": "assistant_queue.cli.manage",
    "audit": "assistant_queue.cli.audit",
    "sweep": "assistant_queue.cli.sweep",
    "doctor": "assistant_queue.cli.doctor",
}
"""Names of the subcommands, in the order of the help, and the modules that define them."""


@click.group(
    cls=LazyGroup,
    modules_by_command=COMMANDS,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="assistant-queue")
def main() -> None:
    """Many messages, many workers, one run at a time per conversation.

    Every message is answered exactly once.

    \b
    See it:      assistant-queue demo
    Run it:      assistant-queue worker --app myapp:queue
    Serve it:    assistant-queue serve --app myapp:queue
    Try it:      assistant-queue send thread-123 "Hello!" --wait 60
    Look at it:  assistant-queue top
    Explain it:  assistant-queue explain ID
    Check it:    assistant-queue doctor

    Each command explains itself: assistant-queue COMMAND --help.
    """  # noqa: D301 - \b keeps click from filling the paragraph
