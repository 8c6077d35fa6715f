"""The calls of both queue classes as operations of the store.

Options and arguments become operations here; the queue classes only run them, blocking or awaited.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from assistant_queue.client import arguments
from assistant_queue.client.add_rules import RulesOfAdds
from assistant_queue.client.additions import Addition
from assistant_queue.client.judging import judge, judge_content
from assistant_queue.client.observed_adds import add_observed
from assistant_queue.config import Config
from assistant_queue.config.protocol import can_write, name_of_backend
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import NotSupported
from assistant_queue.metrics import Metrics
from assistant_queue.models import (
    BatchRecord,
    Explanation,
    FailedBatch,
    Message,
    MessageStatus,
    QueueStatus,
    Receipt,
    SayKind,
    ThreadStatus,
)
from assistant_queue.row_types import MidRun
from assistant_queue.store.calls import Namespace, Operation
from assistant_queue.store.ops import (
    control,
    explaining,
    failures,
    job_messages,
    journal,
    measuring,
    producing,
    saying,
    statuses,
    steering,
    thread_lists,
)
from assistant_queue.store.ops.event_log import ALL_THREADS, COALESCE_MS, listen, typing

_log = logging.getLogger(__name__)

MAX_FAILED_PAGE = 1000
"""Rows of one `list_failed` call. Chosen: a page of the longest errors is about a megabyte."""

MAX_THREADS_PAGE = 1000
"""Rows of one `list_threads` call. Chosen: as `list_failed`; some milliseconds of Redis' time."""

MAX_TIMELINE_PAGE = 1000
"""Rows of one `get_timeline` call. Chosen: as `list_failed`; of usual batches some 400 kB."""

_MOST_TYPING = 1000
"""Entries of `typing` by thread and author that are kept before expired ones are dropped. Chosen:
more than type at once in one process."""

RECHECK_S = 5.0
"""Seconds between two reads of a message's state while a caller waits for its reply, in case the
notification was lost with a connection. Chosen: hardly any cost."""


class Commands:
    """The queue's calls as operations, their arguments checked. Has no connection."""

    def __init__(self, config: Config, namespace: Namespace) -> None:
        self.config = config
        self.namespace = namespace
        self._rules = RulesOfAdds(config)
        self._observers = config.observers  # once: pydantic looks for a private name at length
        self._introduced = False
        self._warned_of: set[str] = set()
        self._seen_typing: dict[tuple[str, str], float] = {}

    def warn_of_blocking(self, call: str) -> None:
        """Log, once for each call of a queue object, that a blocking wait stops a running loop.

        Nothing is logged in an interactive session: notebooks run each cell in a loop, and nothing
        else runs in it.
        """
        # Source: the documentation of sys: `ps1` is defined in interactive mode only.
        if call in self._warned_of or hasattr(sys, "ps1"):
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self._warned_of.add(call)
        _log.warning(
            "AssistantMessageQueue.%s() was called in a running event loop and blocks it until it "
            "returns: use AsyncAssistantMessageQueue in coroutines, or await "
            "asyncio.to_thread(queue.%s, ...)",
            call,
            call,
        )

    def warn_of_workers(self, running: int) -> None:
        """Log that this object has workers running when it starts another one."""
        if running:
            _log.warning(
                "queue %r: start_worker() was called with %d worker(s) of this object running: "
                "each takes up to concurrency=%d runs at once; for one worker, keep the handle of "
                "the first call",
                self.config.queue_prefix,
                running,
                self.config.concurrency,
            )

    def make(
        self,
        thread_id: str,
        message: Any,
        instructions: str | None,
        *,
        message_id: str | None,
        author: str | None,
        metadata: Mapping[str, str] | None,
        tenant: str | None = None,
        wants_reply: bool = True,
        message_delay: float | None = None,
        hold: float | None = None,
        mid_run: MidRun | None = None,
    ) -> Addition:
        """Check the arguments of `add_message_to_thread`."""
        made = arguments.make_message(
            message,
            message_id=message_id,
            instructions=instructions,
            author=author,
            metadata=metadata,
            tenant=tenant,
            wants_reply=wants_reply,
        )
        return Addition(
            thread_id=arguments.check_thread_id(thread_id),
            message=made,
            delay_s=arguments.check_delay(message_delay),
            hold_s=arguments.check_hold(hold),
            mid_run=arguments.check_mid_run(mid_run),
        )

    def add_one(self, row: Addition) -> Operation[Receipt]:
        """`add_message_to_thread`, of a message that was judged."""
        yield from self._introduce()
        return (
            yield from add_observed(
                self._observers,
                self.config.queue_prefix,
                [row],
                lambda rows: producing.add(self.namespace, *self._rules.of(rows[0])),
            )
        )

    def add_many(self, messages: Iterable[Mapping[str, Any]]) -> Operation[list[Receipt]]:
        """`add_messages`."""
        # All of them are judged before the first is queued.
        rows = arguments.make_rows(messages)
        return self.add_rows([judge(self.config, row) for row in rows])

    def add_rows(self, rows: list[Addition]) -> Operation[list[Receipt]]:
        """`add_messages`, of messages that were judged."""
        yield from self._introduce()
        with_rules = self._rules.of
        return (
            yield from add_observed(
                self._observers,
                self.config.queue_prefix,
                rows,
                lambda rows: producing.add_many(self.namespace, [with_rules(row) for row in rows]),
            )
        )

    def _introduce(self) -> Operation[None]:
        """Write the queue's fingerprint, once for each process, before its first message."""
        if not self._introduced:
            yield from control.introduce(self.namespace, self.config.fingerprint)
            self._introduced = True

    def say(
        self, thread_id: str, text: Any, author: str | None, kind: SayKind
    ) -> Operation[Receipt]:
        """`say`."""
        message, checked = arguments.check_say(text, author, kind)
        if checked == "reply" and not can_write(self.config):
            name = name_of_backend(self.config.backend)
            raise NotSupported(
                f"{name} keeps its conversations by itself, so a reply cannot be written there; "
                "nothing was said: give FunctionBackend a history, or say kind='notice'"
            )
        return self._say(arguments.check_thread_id(thread_id), message, checked)

    def _say(self, thread_id: str, message: Message, kind: SayKind) -> Operation[Receipt]:
        yield from self._introduce()
        return (
            yield from add_observed(
                self._observers,
                self.config.queue_prefix,
                [Addition(thread_id=thread_id, message=message)],
                lambda rows: saying.say(
                    self.namespace,
                    rows[0].thread_id,
                    rows[0].message,
                    batch_id=secrets.token_hex(12),
                    kind=kind,
                    result_ttl_s=self.config.result_ttl,
                    is_replicated=self._rules.is_replicated,
                ),
            )
        )

    def get_message(self, message_id: str) -> Operation[MessageStatus | None]:
        """`get_message`."""
        return statuses.read_message(self.namespace, arguments.check_message_id(message_id))

    def explain(self, name: str) -> Operation[Explanation]:
        """`explain`."""
        return explaining.explain(
            self.namespace, arguments.identifier(name, "id", arguments.MAX_MESSAGE_ID)
        )

    def timeline(
        self, thread_id: str, limit: int, before: str | None
    ) -> Operation[list[BatchRecord]]:
        """`get_timeline`."""
        return journal.read_timeline(
            self.namespace,
            arguments.check_thread_id(thread_id),
            arguments.check_limit(limit, MAX_TIMELINE_PAGE),
            None if before is None else arguments.check_batch_id(before),
        )

    def queue_status(self) -> Operation[QueueStatus]:
        """`get_queue_status`."""
        return statuses.read_status(self.namespace)

    def metrics(self) -> Operation[Metrics]:
        """`get_metrics`."""
        return measuring.read_metrics(self.namespace)

    def thread_status(self, thread_id: str) -> Operation[ThreadStatus]:
        """`get_thread_status`."""
        return statuses.read_thread(self.namespace, arguments.check_thread_id(thread_id))

    def list_threads(
        self, state: str | None, limit: int, after: str | None, order: str
    ) -> Operation[list[ThreadStatus]]:
        """`list_threads`."""
        if state is not None:
            arguments.check_choice(state, "state", thread_lists.STATES)
        return thread_lists.list_threads(
            self.namespace,
            state,
            arguments.check_limit(limit, MAX_THREADS_PAGE),
            None if after is None else arguments.check_thread_id(after),
            arguments.check_choice(order, "order", thread_lists.ORDERS),
        )

    def list_failed(self, limit: int, after: str | None) -> Operation[list[FailedBatch]]:
        """`list_failed`."""
        checked = None if after is None else arguments.check_batch_id(after)
        return failures.list_failed(
            self.namespace, arguments.check_limit(limit, MAX_FAILED_PAGE), checked
        )

    def retry_failed(self, batch_id: str) -> Operation[None]:
        """`retry_failed`."""
        return failures.retry_failed(self.namespace, arguments.check_batch_id(batch_id))

    def retry_failed_all(self, reason: str | None, thread_id: str | None) -> Operation[int]:
        """`retry_failed_all`."""
        chosen = arguments.check_failed_filter(reason, thread_id)
        return failures.retry_all(self.namespace, *chosen)

    def discard_failed_all(self, reason: str | None, thread_id: str | None) -> Operation[int]:
        """`discard_failed_all`."""
        chosen = arguments.check_failed_filter(reason, thread_id)
        return failures.discard_all(self.namespace, *chosen, self.config.result_ttl)

    def discard_failed(self, batch_id: str) -> Operation[None]:
        """`discard_failed`."""
        return failures.discard_failed(
            self.namespace, arguments.check_batch_id(batch_id), self.config.result_ttl
        )

    def listen(self, thread_id: str) -> Operation[str]:
        """`open_events`."""
        return self._listen(arguments.check_thread_id(thread_id))

    def listen_to_all(self) -> Operation[str]:
        """`feed`, from now on."""
        return self._listen(ALL_THREADS)

    def _listen(self, thread_id: str) -> Operation[str]:
        stream = yield from listen(self.namespace, thread_id)
        return stream.newest

    def typing(self, thread_id: str, author: str | None) -> Operation[None]:
        """`typing`."""
        return self._typing(
            arguments.check_thread_id(thread_id), arguments.check_author(author) or ""
        )

    def _typing(self, thread_id: str, author: str) -> Operation[None]:
        """Send nothing if it was sent a moment ago: a page calls this with every key press."""
        now_s = self.namespace.clock.monotonic()
        if now_s < self._seen_typing.get((thread_id, author), 0.0):
            return
        if len(self._seen_typing) >= _MOST_TYPING:
            self._seen_typing = {
                key: until for key, until in self._seen_typing.items() if until > now_s
            }
        self._seen_typing[thread_id, author] = now_s + COALESCE_MS / 1000
        yield from typing(self.namespace, thread_id, author, self._rules.window)

    # --- control ----------------------------------------------------------------------------------

    def cancel(self, message_id: str, *, running: bool) -> Operation[bool]:
        """`cancel`."""
        checked = arguments.check_message_id(message_id)
        reaches = arguments.check_flag(running, "running")
        done = yield from control.cancel(self.namespace, checked, self.config.result_ttl)
        if reaches and not done:
            return (yield from steering.revise(self.namespace, checked, None))
        return done

    def promote(self, message_id: str, mid_run: Any) -> Operation[bool]:
        """`promote`."""
        arguments.check_choice(mid_run, "mid_run", ("interrupt", "steer"))
        checked = arguments.check_message_id(message_id)
        return steering.promote(self.namespace, checked, Wish(mid_run))

    def edit(self, message_id: str, message: Any, *, running: bool) -> Operation[bool]:
        """`edit_message`."""
        made = self.make_edit(message_id, message)
        arguments.check_flag(running, "running")
        judge_content(self.config, made, None)
        return self.edit_made(made, running=running)

    def make_edit(self, message_id: str, message: Any) -> Message:
        """Check the arguments of `edit_message`."""
        checked = arguments.check_message_id(message_id)
        return arguments.make_message(
            message, message_id=checked, instructions=None, author=None, metadata=None
        )

    def edit_made(self, made: Message, *, running: bool) -> Operation[bool]:
        """`edit_message`, of a validated content."""
        done = yield from control.edit(self.namespace, made)
        if running and not done:
            return (yield from steering.revise(self.namespace, made.id, made))
        return done

    def pause(self, thread_id: str | None) -> Operation[None]:
        """`pause`."""
        if thread_id is None:
            return control.pause_queue(self.namespace)
        return control.pause_thread(self.namespace, arguments.check_thread_id(thread_id))

    def flush(self, thread_id: str) -> Operation[bool]:
        """`flush`."""
        return control.flush(self.namespace, arguments.check_thread_id(thread_id))

    def stop(self, thread_id: str) -> Operation[bool]:
        """`stop`."""
        return steering.stop(self.namespace, arguments.check_thread_id(thread_id))

    def resume(self, thread_id: str | None) -> Operation[None]:
        """`resume`."""
        if thread_id is None:
            return control.resume_queue(self.namespace)
        return control.resume_thread(self.namespace, arguments.check_thread_id(thread_id))

    def forget(self, thread_id: str) -> Operation[None]:
        """`forget_thread`."""
        return control.forget(self.namespace, arguments.check_thread_id(thread_id))

    def jobs_of(self, thread_id: str) -> Operation[list[MessageStatus]]:
        """`get_jobs_by_thread_id`."""
        return job_messages.messages_of(self.namespace, arguments.check_thread_id(thread_id))

    def messages_of_job(self, job_id: str) -> Operation[list[MessageStatus]]:
        """`get_messages_by_job_id`."""
        return job_messages.messages_of_job(
            self.namespace, arguments.identifier(job_id, "job_id", arguments.MAX_MESSAGE_ID)
        )
