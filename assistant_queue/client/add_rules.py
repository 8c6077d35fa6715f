"""Windows of messages: the options of a queue, and the wishes of one add."""

from __future__ import annotations

from dataclasses import replace

from assistant_queue.client.additions import Addition
from assistant_queue.config import Config, to_ms
from assistant_queue.core.window import Window
from assistant_queue.models import Message
from assistant_queue.store.ops.producing import AddRules


class RulesOfAdds:
    """The rules by which the messages of one queue are added.

    Attributes:
        window: The window without the wishes of a message.
        is_replicated: An add waits for a replica.
    """

    def __init__(self, config: Config) -> None:
        """Read the options."""
        self.window = Window(
            delay_ms=to_ms(config.message_delay),
            kind=config.window,
            max_wait_ms=to_ms(config.max_wait or 0),
            max_batch=config.max_batch_size or 0,
            max_chars=config.max_batch_chars or 0,
        )
        self.is_replicated = config.durability == "replicated"
        self._of_attachments = AddRules(
            window=self.window,
            after_run=config.after_run,
            mid_run=config.mid_run,
            max_pending=config.max_pending or 0,
            replicated=self.is_replicated,
        )
        delay_s = config.attachment_wait or config.message_delay
        waiting = replace(self.window, delay_ms=to_ms(delay_s))
        self._of_text = replace(self._of_attachments, window=waiting)

    def of(self, row: Addition) -> tuple[str, Message, AddRules]:
        """Return a message with its rules: text alone may be a caption, and waits for attachments.

        A message that flushes is a window that is full with one message.
        """
        rules = self._of_attachments if row.message.has_attachment else self._of_text
        window = rules.window
        if row.delay_s is not None:
            window = replace(window, delay_ms=to_ms(row.delay_s))
            if window.kind == "adaptive":
                window = replace(window, kind="sliding")  # a given length is not adapted
        if row.hold_s:
            window = replace(window, hold_ms=to_ms(row.hold_s))
        if row.flushes and row.message.wants_reply:
            window = replace(window, max_batch=1)
        if window is not rules.window:
            rules = replace(rules, window=window)
        if row.mid_run not in (None, rules.mid_run):
            rules = replace(rules, mid_run=row.mid_run)
        return row.thread_id, row.message, rules
