"""The endpoints under /conversations."""

from __future__ import annotations

from assistant_queue.testing.provider import bodies
from assistant_queue.testing.provider import responses_wire as wire
from assistant_queue.testing.provider.api_errors import response_side_not_found
from assistant_queue.testing.provider.paging import page
from assistant_queue.testing.provider.responses_api import check_unlocked
from assistant_queue.testing.provider.routing import Answer, ApiCall, Operation
from assistant_queue.testing.provider.state import Conversation, Json, World


class ConversationsApi:
    """Conversations and the items in them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def operations(self) -> list[Operation]:
        """The endpoints of this class."""
        one = "/conversations/{conversation_id}"
        items = f"{one}/items"
        item = f"{items}/{{item_id}}"
        return [
            Operation("conversations.create", "POST", "/conversations", "responses", self.create),
            Operation("conversations.retrieve", "GET", one, "responses", self.retrieve),
            Operation("conversations.update", "POST", one, "responses", self.update),
            Operation("conversations.delete", "DELETE", one, "responses", self.delete),
            Operation("items.list", "GET", items, "responses", self.list_items),
            Operation("items.create", "POST", items, "responses", self.create_items),
            Operation("items.retrieve", "GET", item, "responses", self.retrieve_item),
            Operation("items.delete", "DELETE", item, "responses", self.delete_item),
        ]

    async def create(self, call: ApiCall) -> Answer:
        """A new conversation, with up to 20 items."""
        asked = call.checked(bodies.CREATE_CONVERSATION)
        conversation = self._world.new_conversation(asked.get("metadata") or {})
        items = wire.input_items(asked.get("items") or [])
        if items:
            self._append(conversation, items)
        return wire.conversation_json(conversation)

    async def retrieve(self, call: ApiCall) -> Answer:
        """A conversation."""
        return wire.conversation_json(self._find(call))

    async def update(self, call: ApiCall) -> Answer:
        """Replace a conversation's metadata."""
        conversation = self._find(call)
        conversation.metadata = dict(call.checked(bodies.UPDATE_CONVERSATION)["metadata"])
        return wire.conversation_json(conversation)

    async def delete(self, call: ApiCall) -> Answer:
        """Forget a conversation and its items."""
        conversation = self._find(call)
        del self._world.conversations[conversation.id]
        return {"id": conversation.id, "object": "conversation.deleted", "deleted": True}

    async def list_items(self, call: ApiCall) -> Answer:
        """A page of items."""
        return page(self._find(call).items, call.request.query, self._world.personality)

    async def create_items(self, call: ApiCall) -> Answer:
        """Add up to 20 items."""
        conversation = self._find(call)
        asked = call.checked(bodies.CREATE_ITEMS)
        check_unlocked(self._world, conversation)
        items = wire.input_items(asked["items"])
        self._append(conversation, items)
        return {
            "object": "list",
            "data": items,
            "first_id": items[0]["id"] if items else None,
            "last_id": items[-1]["id"] if items else None,
            "has_more": False,
        }

    async def retrieve_item(self, call: ApiCall) -> Answer:
        """One item."""
        return self._find_item(self._find(call), call)

    async def delete_item(self, call: ApiCall) -> Answer:
        """Take one item out."""
        conversation = self._find(call)
        check_unlocked(self._world, conversation)
        conversation.items.remove(self._find_item(conversation, call))
        return wire.conversation_json(conversation)

    def _append(self, conversation: Conversation, items: list[Json]) -> None:
        conversation.items.extend(items)
        self._world.record_appended(conversation.id, None, items)

    def _find(self, call: ApiCall) -> Conversation:
        ident = call.param("conversation_id")
        conversation = self._world.conversations.get(ident)
        if conversation is None:
            raise response_side_not_found("Conversation", ident)
        return conversation

    def _find_item(self, conversation: Conversation, call: ApiCall) -> Json:
        ident = call.param("item_id")
        for item in conversation.items:
            if item["id"] == ident:
                return item
        raise response_side_not_found("Item", ident)
