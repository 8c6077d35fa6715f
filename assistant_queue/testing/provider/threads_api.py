"""The endpoints of assistants, threads and messages."""

from __future__ import annotations

from assistant_queue.testing.provider import assistants_wire as wire
from assistant_queue.testing.provider import bodies
from assistant_queue.testing.provider.api_errors import assistant_side_not_found, message_during_run
from assistant_queue.testing.provider.paging import page
from assistant_queue.testing.provider.routing import Answer, ApiCall, Operation
from assistant_queue.testing.provider.state import Json, Thread, World, is_user_text


class ThreadsApi:
    """Assistants, threads and the messages in them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def operations(self) -> list[Operation]:
        """The endpoints of this class."""
        thread = "/threads/{thread_id}"
        messages = f"{thread}/messages"
        message = f"{messages}/{{message_id}}"
        assistant = "/assistants/{assistant_id}"
        return [
            Operation(
                "assistants.create", "POST", "/assistants", "assistants", self.create_assistant
            ),
            Operation(
                "assistants.retrieve", "GET", assistant, "assistants", self.retrieve_assistant
            ),
            Operation("threads.create", "POST", "/threads", "assistants", self.create_thread),
            Operation("threads.retrieve", "GET", thread, "assistants", self.retrieve_thread),
            Operation("threads.update", "POST", thread, "assistants", self.update_thread),
            Operation("threads.delete", "DELETE", thread, "assistants", self.delete_thread),
            Operation("messages.create", "POST", messages, "assistants", self.create_message),
            Operation("messages.list", "GET", messages, "assistants", self.list_messages),
            Operation("messages.retrieve", "GET", message, "assistants", self.retrieve_message),
        ]

    async def create_assistant(self, call: ApiCall) -> Answer:
        """A new assistant."""
        assistant = wire.assistant_json(call.checked(bodies.CREATE_ASSISTANT))
        self._world.assistants[assistant["id"]] = assistant
        return assistant

    async def retrieve_assistant(self, call: ApiCall) -> Answer:
        """An assistant."""
        return find_assistant(self._world, call.param("assistant_id"))

    async def create_thread(self, call: ApiCall) -> Answer:
        """A new thread, with messages if asked for."""
        return wire.thread_json(new_thread(self._world, call.checked(bodies.CREATE_THREAD)))

    async def retrieve_thread(self, call: ApiCall) -> Answer:
        """A thread."""
        return wire.thread_json(find_thread(self._world, call))

    async def update_thread(self, call: ApiCall) -> Answer:
        """Replace a thread's metadata."""
        thread = find_thread(self._world, call)
        asked = call.checked(bodies.UPDATE_THREAD)
        if asked.get("metadata") is not None:
            thread.metadata = dict(asked["metadata"])
        return wire.thread_json(thread)

    async def delete_thread(self, call: ApiCall) -> Answer:
        """Forget a thread."""
        thread = find_thread(self._world, call)
        del self._world.threads[thread.id]
        return {"id": thread.id, "object": "thread.deleted", "deleted": True}

    async def create_message(self, call: ApiCall) -> Answer:
        """Add a message; refused while a run is active."""
        thread = find_thread(self._world, call)
        asked = call.checked(bodies.CREATE_MESSAGE)
        lock = self._world.personality.lock
        if thread.active and lock != "none":
            raise message_during_run(
                thread.id, next(iter(thread.active)), as_conflict=lock == "conflict"
            )
        return add_message(self._world, thread, asked)

    async def list_messages(self, call: ApiCall) -> Answer:
        """A page of messages, of one run if asked for."""
        messages = find_thread(self._world, call).messages
        run_id = call.request.query.get("run_id")
        if run_id is not None and not self._world.personality.ignores_run_id_filter:
            messages = [message for message in messages if message["run_id"] == run_id]
        return page(messages, call.request.query, self._world.personality)

    async def retrieve_message(self, call: ApiCall) -> Answer:
        """One message."""
        ident = call.param("message_id")
        for message in find_thread(self._world, call).messages:
            if message["id"] == ident:
                return message
        raise assistant_side_not_found("message", ident)


def find_thread(world: World, call: ApiCall) -> Thread:
    """The thread a call names.

    Raises:
        ApiProblem: 404, unknown id.
    """
    ident = call.param("thread_id")
    thread = world.threads.get(ident)
    if thread is None:
        raise assistant_side_not_found("thread", ident)
    return thread


def find_assistant(world: World, ident: str) -> Json:
    """The assistant with this id.

    Raises:
        ApiProblem: 404, unknown id.
    """
    assistant = world.assistants.get(ident)
    if assistant is None:
        raise assistant_side_not_found("assistant", ident)
    return assistant


def new_thread(world: World, asked: Json) -> Thread:
    """A new thread with the messages asked for; those in front of a reply have been answered."""
    thread = world.new_thread(asked.get("metadata") or {})
    added = [add_message(world, thread, message) for message in asked.get("messages") or []]
    replies = [place for place, message in enumerate(added) if not is_user_text(message)]
    thread.answered.update(message["id"] for message in added[: replies[-1] if replies else 0])
    return thread


def add_message(world: World, thread: Thread, asked: Json) -> Json:
    """Add a client's message to a thread."""
    message = wire.asked_message(thread.id, asked)
    thread.messages.append(message)
    world.record_appended(thread.id, None, [message])
    return message
