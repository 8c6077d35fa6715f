"""Every Redis key of the package: its type, what it holds, how long it lives."""

from __future__ import annotations

from dataclasses import dataclass

FORMAT_VERSION = 1
"""The version of everything below; stands in the key `format` of each prefix."""


def base_of(prefix: str) -> str:
    """What the keys of a queue begin with, in front of the first colon: `bot%3Athread` for `bot:thread`.

    No two prefixes have the same, and none is the beginning of another's keys. Without a colon or a percent sign it is the prefix itself.
    """
    return prefix.replace("%", "%25").replace(":", "%3A")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one queue.

    Attributes:
        prefix: What they begin with: `base_of` its `queue_prefix`, or the `queue_prefix` as it is, if version 0.1 has made the queue.
    """

    prefix: str

    # --- the whole queue; these live as long as the prefix is used -----------------------------------------------

    @property
    def format(self) -> str:
        """String: the format version."""
        return f"{self.prefix}:format"

    @property
    def fingerprint(self) -> str:
        """String: what the producers believe this queue to be (backend, assistant or model, has tools)."""
        return f"{self.prefix}:fingerprint"

    @property
    def due(self) -> str:
        """Sorted set: thread id -> ms by which somebody must have looked at it; every thread that is not idle or paused."""
        return f"{self.prefix}:due"

    @property
    def failed(self) -> str:
        """Sorted set: batch id -> ms when it failed; the dead and the parked."""
        return f"{self.prefix}:failed"

    @property
    def counters(self) -> str:
        """Hash: delayed, waiting, active, completed, failed -> messages."""
        return f"{self.prefix}:counters"

    @property
    def paused(self) -> str:
        """String: present while the whole queue is paused; ms since when (version 0.1: `1`)."""
        return f"{self.prefix}:paused"

    @property
    def quarantine(self) -> str:
        """Sorted set: key -> ms when it was moved aside because what it held was not of our making; `shelf` is how those keys begin."""
        return f"{self.prefix}:quarantine"

    @property
    def shelf(self) -> str:
        """The beginning of the names of keys that were moved aside. They live until a person removes them."""
        return f"{self.prefix}:quarantine:"

    @property
    def replicated(self) -> str:
        """String: written behind what must reach a replica, so that its arrival proves the rest; lives a minute."""
        return f"{self.prefix}:replicated"

    @property
    def tick(self) -> str:
        """Channel: the ms of a due time that is earlier than all others; timers listen."""
        return f"{self.prefix}:tick"

    @property
    def timer(self) -> str:
        """String: the watchman that keeps the time for all; lives for TERM_MS. Also the channel on which it resigns."""
        return f"{self.prefix}:timer"

    def over(self, call_id: str) -> str:
        """String: a call that must act once has acted, or a direct call has ended: no late copy acts again; lives OVER_MS."""
        return f"{self.prefix}:over:{call_id}"

    def bell(self, hub_id: str) -> str:
        """Stream: wakes the reader of one process, which reads it beside the events; lives for less than a minute."""
        return f"{self.prefix}:bell:{hub_id}"

    @property
    def limits(self) -> str:
        """Prefix of the keys in which the HTTP service counts what each client sends; they live as long as a limit looks back."""
        return f"{self.prefix}:limits"

    # --- one thread -------------------------------------------------------------------------------------------------

    def thread(self, thread_id: str) -> str:
        """Hash: state, lease, window, batch (fields in `lua/_common.lua`); gone when the thread is idle."""
        return f"{self.prefix}:thread:{thread_id}"

    def pending(self, thread_id: str) -> str:
        """List: packed messages that wait, oldest first; gone when none waits."""
        return f"{self.prefix}:pending:{thread_id}"

    def frozen(self, thread_id: str) -> str:
        """List: packed messages of the current batch; gone when the batch has ended."""
        return f"{self.prefix}:frozen:{thread_id}"

    def conversation(self, thread_id: str) -> str:
        """Hash: id, anchor, open; the provider's side of the thread. Lives until `forget_thread`."""
        return f"{self.prefix}:conversation:{thread_id}"

    def events(self, thread_id: str) -> str:
        """Stream: what happens to the thread, for those who listen; lives `event_ttl` past the last event, or the last listener."""
        return f"{self.prefix}:events:{thread_id}"

    def done(self, thread_id: str) -> str:
        """Channel: ids of the thread's batches as they end; those who wait for a reply listen."""
        return f"{self.prefix}:done:{thread_id}"

    def present(self, thread_id: str) -> str:
        """Sorted set: name -> ms until which somebody of that name counts as here; HTTP servers write it, gone when nobody listens."""
        return f"{self.prefix}:present:{thread_id}"

    # --- one message, one batch ---------------------------------------------------------------------------------

    def message(self, message_id: str) -> str:
        """Hash: the record of a message, its text not included; lives `result_ttl` past its end and is the memory for duplicates."""
        return f"{self.prefix}:message:{message_id}"

    def record(self, batch_id: str) -> str:
        """Hash: what became of a batch; lives `result_ttl` past its end, without limit while it is in the failed list."""
        return f"{self.prefix}:batch:{batch_id}"

    def dead(self, batch_id: str) -> str:
        """List: packed messages of a failed batch; gone when it is retried or discarded."""
        return f"{self.prefix}:dead:{batch_id}"

    def delivery(self, batch_id: str) -> str:
        """String: `open` while a process is in a call of `on_reply` that it has given up, `done` once that has returned.

        Lives as long as a lease past the last sign of that process; `done` for `result_ttl`, or until it is noted.
        """
        return f"{self.prefix}:delivery:{batch_id}"
