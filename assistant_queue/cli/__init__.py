"""The `assistant-queue` command."""

from __future__ import annotations

import click

from assistant_queue import __version__
from assistant_queue.cli.control import cancel as _cancel
from assistant_queue.cli.control import forget as _forget
from assistant_queue.cli.control import pause as _pause
from assistant_queue.cli.control import resume as _resume
from assistant_queue.cli.control import thread as _thread
from assistant_queue.cli.demo import demo as _demo
from assistant_queue.cli.doctor import doctor as _doctor
from assistant_queue.cli.failed import failed as _failed
from assistant_queue.cli.problems import EXIT_CODES, Group
from assistant_queue.cli.send import send as _send
from assistant_queue.cli.serve import serve as _serve
from assistant_queue.cli.status import status as _status
from assistant_queue.cli.sweep import sweep as _sweep
from assistant_queue.cli.worker import worker as _worker

__all__ = ["main"]


@click.group(cls=Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="assistant-queue")
def main() -> None:
    """Many messages, many workers, one run at a time per conversation - and every message answered exactly once.

    \b
    See it:      assistant-queue demo
    Run it:      assistant-queue worker --app myapp:queue
    Serve it:    assistant-queue serve --app myapp:queue
    Try it:      assistant-queue send thread-123 "Hello!" --wait 60
    Look at it:  assistant-queue status --watch
    What ails?:  assistant-queue doctor

    Each command explains itself: assistant-queue COMMAND --help.
    """  # noqa: D301 - \b keeps click from filling the paragraph


# Under another name each: `assistant_queue.cli.demo` stays the package.
for _command in (_demo, _worker, _serve, _send, _status, _thread, _failed, _cancel, _pause, _resume, _forget, _sweep, _doctor):
    main.add_command(_command)
