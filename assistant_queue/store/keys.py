"""Every Redis key of the package: its type, its content, its lifetime."""

from __future__ import annotations

from dataclasses import dataclass

FORMAT_VERSION = 1
"""The version of everything below; stored in the key `format` of each prefix."""


def base_of(prefix: str) -> str:
    """Return the beginning of a queue's keys, such as `bot%3Athread` for `bot:thread`.

    No two prefixes have the same one, and none is the beginning of another's keys. For a prefix
    without a colon or a percent sign it is the prefix itself.
    """
    return prefix.replace("%", "%25").replace(":", "%3A")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one queue.

    Attributes:
        prefix: Their beginning: `base_of` the `queue_prefix`, or the `queue_prefix` as it is if
            version 0.1 created the queue.
    """

    prefix: str

    # --- the whole queue; these live as long as the prefix is used --------------------------------

    @property
    def format(self) -> str:
        """String: the format version."""
        return f"{self.prefix}:format"

    @property
    def fingerprint(self) -> str:
        """String: the producers' configuration as JSON: backend, assistant or model, has tools."""
        return f"{self.prefix}:fingerprint"

    @property
    def due(self) -> str:
        """Sorted set: thread id -> ms at which the thread must be checked at the latest.

        Contains every thread that is not idle or paused, unless only messages that want no reply
        wait in it.
        """
        return f"{self.prefix}:due"

    @property
    def stopping(self) -> str:
        """Sorted set: thread id -> ms at which it must be checked even if the queue is paused.

        Contains threads with a batch that is to be stopped.
        """
        return f"{self.prefix}:stopping"

    @property
    def failed(self) -> str:
        """Sorted set: batch id -> ms when it failed; the dead and the parked."""
        return f"{self.prefix}:failed"

    @property
    def deliveries(self) -> str:
        """Sorted set: thread id -> ms at which its delivery must be checked at the latest.

        Contains every thread with replies that wait for their delivery and that is not paused.
        """
        return f"{self.prefix}:deliveries"

    @property
    def counters(self) -> str:
        """Hash: delayed, waiting, active, completed, failed -> messages.

        And replies, delivered, undelivered -> replies. `lua/_common.lua` lists the rest.
        """
        return f"{self.prefix}:counters"

    @property
    def metrics(self) -> str:
        """Hash: what was counted since the key exists; `core/measures.py` names the fields."""
        return f"{self.prefix}:metrics"

    @property
    def runs(self) -> str:
        """Hash: run id -> thread id, of batches that are parked while the provider works."""
        return f"{self.prefix}:runs"

    @property
    def heard(self) -> str:
        """String: present while webhooks of the provider work; lives five minutes past the last."""
        return f"{self.prefix}:heard"

    @property
    def polls(self) -> str:
        """String: ms from which the next poll of a run may be made; lives an hour past the last."""
        return f"{self.prefix}:polls"

    def early(self, run_id: str) -> str:
        """String: a webhook said that this run has ended before its batch was parked.

        Lives ten minutes, or until then.
        """
        return f"{self.prefix}:early:{run_id}"

    def webhook(self, webhook_id: str) -> str:
        """String: a webhook of the provider that woke a batch; lives an hour."""
        return f"{self.prefix}:webhook:{webhook_id}"

    @property
    def approvals(self) -> str:
        """Sorted set: id of an open tool call -> ms when an answer from outside was asked for."""
        return f"{self.prefix}:approvals"

    @property
    def questions(self) -> str:
        """Sorted set: id of a tool call -> ms at which a worker may ask about it on its channel.

        Or show there how it was settled. Contains exactly the calls of which that is left to do.
        """
        return f"{self.prefix}:questions"

    @property
    def history(self) -> str:
        """Stream: one sample of the metrics for each minute, those of the latest day."""
        return f"{self.prefix}:history"

    @property
    def operations(self) -> str:
        """List: the newest 1,000 operations of operators, newest first."""
        return f"{self.prefix}:operations"

    @property
    def pausing(self) -> str:
        """Sorted set: thread id -> ms when it was paused or taken over; some may be over.

        The empty id -> ms, negative, when the pauses of earlier versions were last added.
        """
        return f"{self.prefix}:pausing"

    @property
    def audit(self) -> str:
        """List: batches that ended, until they are in the audit's database."""
        return f"{self.prefix}:audit"

    @property
    def auditing(self) -> str:
        """Hash: the lease of the worker that writes `audit` to its database, and what was lost."""
        return f"{self.prefix}:auditing"

    @property
    def paused(self) -> str:
        """String: present while the whole queue is paused; ms since when (version 0.1: `1`)."""
        return f"{self.prefix}:paused"

    @property
    def quarantine(self) -> str:
        """Sorted set: key -> ms when it was quarantined because its content was not the queue's.

        Those keys begin with `shelf`.
        """
        return f"{self.prefix}:quarantine"

    @property
    def shelf(self) -> str:
        """Prefix of quarantined keys; they live until an operator removes them."""
        return f"{self.prefix}:quarantine:"

    @property
    def replicated(self) -> str:
        """String: a marker written after data that must reach a replica; lives a minute.

        Its arrival at the replica proves that of the data.
        """
        return f"{self.prefix}:replicated"

    @property
    def tick(self) -> str:
        """Channel: the ms of a due time that is earlier than all others; the leader subscribes."""
        return f"{self.prefix}:tick"

    @property
    def wishes(self) -> str:
        """Channel: ids of threads with a batch that is to be stopped; workers subscribe."""
        return f"{self.prefix}:wishes"

    @property
    def leader(self) -> str:
        """String: the id of the leader, the scheduler that acts for the queue; lives for TERM_MS.

        Also the channel on which the leader announces that it steps down.
        """
        return f"{self.prefix}:timer"

    def over(self, call_id: str) -> str:
        """String: a call that must act once has acted, or a direct call has ended; lives OVER_MS.

        No late copy of the call acts again.
        """
        return f"{self.prefix}:over:{call_id}"

    def bell(self, hub_id: str) -> str:
        """Stream: wakes the reader of one process, which reads it along with the events.

        Lives for less than a minute.
        """
        return f"{self.prefix}:bell:{hub_id}"

    @property
    def feed(self) -> str:
        """Stream: the newest 10,000 events of all threads, for the readers of the feed.

        Lives `event_ttl` past the last look of a reader.
        """
        return f"{self.prefix}:feed"

    @property
    def limits(self) -> str:
        """Prefix of the keys in which the HTTP service counts each client's requests.

        They live as long as the period of a limit.
        """
        return f"{self.prefix}:limits"

    # --- one thread -------------------------------------------------------------------------------

    def thread(self, thread_id: str) -> str:
        """Hash: state, lease, window, batch; deleted when the thread is idle.

        `lua/_common.lua` lists the fields.
        """
        return f"{self.prefix}:thread:{thread_id}"

    def pending(self, thread_id: str) -> str:
        """List: packed waiting messages, oldest first; deleted when none waits."""
        return f"{self.prefix}:pending:{thread_id}"

    def frozen(self, thread_id: str) -> str:
        """List: packed messages of the current batch; deleted when the batch ends."""
        return f"{self.prefix}:frozen:{thread_id}"

    def conversation(self, thread_id: str) -> str:
        """Hash: id, anchor, open; the provider's side of the thread.

        Lives until `forget_thread`.
        """
        return f"{self.prefix}:conversation:{thread_id}"

    def pace(self, thread_id: str) -> str:
        """String: the pace of the thread's messages, where windows are adaptive.

        Lives a month past the last message.
        """
        return f"{self.prefix}:pace:{thread_id}"

    def events(self, thread_id: str) -> str:
        """Stream: the thread's events, for subscribers.

        Lives `event_ttl` past the last event or the last subscriber.
        """
        return f"{self.prefix}:events:{thread_id}"

    def done(self, thread_id: str) -> str:
        """Channel: ids of the thread's batches as they end, for callers that wait for a reply."""
        return f"{self.prefix}:done:{thread_id}"

    def present(self, thread_id: str) -> str:
        """Sorted set: user name -> ms until which that user counts as present.

        HTTP servers write it; deleted when the thread has no subscribers.
        """
        return f"{self.prefix}:present:{thread_id}"

    def outbox(self, thread_id: str) -> str:
        """List: packed replies that wait for their delivery, in order.

        `lua/_outbox.lua` has the form. Deleted when none waits.
        """
        return f"{self.prefix}:outbox:{thread_id}"

    def delivering(self, thread_id: str) -> str:
        """Hash: state of the delivery at the head of the outbox; deleted with the outbox."""
        return f"{self.prefix}:delivering:{thread_id}"

    def journal(self, thread_id: str) -> str:
        """List: what became of the thread's latest batches (`core/journal_entries.py`).

        Lives `journal_ttl` past the last of them.
        """
        return f"{self.prefix}:journal:{thread_id}"

    # --- one message, one batch -------------------------------------------------------------------

    def message(self, message_id: str) -> str:
        """Hash: the record of a message, without its text; lives `result_ttl` past its end.

        Duplicates are detected by it.
        """
        return f"{self.prefix}:message:{message_id}"

    def call(self, call_id: str) -> str:
        """Hash: a tool call that is answered from outside, by its public id; texts while it is open.

        Lives `result_ttl` past its end.
        """
        return f"{self.prefix}:call:{call_id}"

    def record(self, batch_id: str) -> str:
        """Hash: the outcome of a batch; lives `result_ttl` past its end.

        Lives without limit while the batch is in the failed list.
        """
        return f"{self.prefix}:batch:{batch_id}"

    def dead(self, batch_id: str) -> str:
        """List: packed messages of a failed batch; deleted when it is retried or discarded."""
        return f"{self.prefix}:dead:{batch_id}"

    def reply(self, batch_id: str) -> str:
        """Hash: a reply that could not be delivered; deleted when it is retried or discarded."""
        return f"{self.prefix}:reply:{batch_id}"

    def delivery(self, batch_id: str) -> str:
        """String: `open` while an abandoned `on_reply` call still runs, `done` after it returned.

        `open` lives as long as a lease past the last renewal by that process; `done` for
        `result_ttl`, or until a worker records the delivery.
        """
        return f"{self.prefix}:delivery:{batch_id}"
