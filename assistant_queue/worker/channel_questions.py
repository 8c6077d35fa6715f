"""Questions of channels whether a tool may be called: asked, and shown as settled.

They are called as hooks are: beside the batches, bounded, in the order of a thread's events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from assistant_queue.approvals import Approval
from assistant_queue.channels.base import SettledQuestion
from assistant_queue.channels.channel import Channel, channel_of
from assistant_queue.user_code.hooks import Hook

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime


def ask_on_channel(
    runtime: Runtime, thread_id: str, batch_id: str, approval: Callable[[], Approval]
) -> None:
    """Have the channel of a thread ask about a call, if it does."""
    channel = _asking(runtime, thread_id)
    if channel is not None:
        _call(runtime, channel, channel.ask, approval(), thread_id, batch_id)


def show_settled(
    runtime: Runtime, thread_id: str, batch_id: str, questions: Iterable[SettledQuestion]
) -> None:
    """Have the channel of a thread show how calls were settled, if it asked about them."""
    channel = _asking(runtime, thread_id)
    if channel is not None:
        for question in questions:
            _call(runtime, channel, channel.settled, question, thread_id, batch_id)


def _asking(runtime: Runtime, thread_id: str) -> Channel | None:
    channel = channel_of(thread_id, runtime.config.channels)
    return channel if channel is not None and getattr(channel, "asks", False) else None


def _call(  # noqa: PLR0917 - of this module alone
    runtime: Runtime,
    channel: Channel,
    function: Callable[[Any], Any],
    value: object,
    thread_id: str,
    batch_id: str,
) -> None:
    hook = Hook(function, f"the questions of {channel.name!r}", on_loop=True)
    limit_s = runtime.config.callback_limit
    runtime.hook_calls.emit("approvals", (hook,), value, thread_id, batch_id, limit_s)
