"""Store operations of takeovers, from the arguments of callers."""

from __future__ import annotations

from assistant_queue.client import arguments
from assistant_queue.store.calls import Namespace, Operation
from assistant_queue.store.ops import takeovers


def take_over(
    namespace: Namespace, thread_id: str, by: str, instead_of: str | None, *, stop: bool
) -> Operation[bool]:
    """`take_over`."""
    before = None if instead_of is None else arguments.check_person(instead_of, "instead_of")
    return takeovers.take_over(
        namespace,
        arguments.check_thread_id(thread_id),
        arguments.check_person(by, "by"),
        instead_of=before,
        stops=arguments.check_flag(stop, "stop"),
    )


def hand_back(namespace: Namespace, thread_id: str) -> Operation[bool]:
    """`hand_back`."""
    return takeovers.hand_back(namespace, arguments.check_thread_id(thread_id))
