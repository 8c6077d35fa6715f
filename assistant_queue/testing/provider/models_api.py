"""The endpoints under /models: this server has every model that is asked for, unless its personality names the ones it has."""

from __future__ import annotations

from assistant_queue.testing.provider.chat_refusals import check_model
from assistant_queue.testing.provider.routing import Answer, Call, Operation
from assistant_queue.testing.provider.state import Json

_MADE_AT = 1_700_000_000
"""When the models were made, seconds since the epoch. Chosen: any time in the past."""


class ModelsApi:
    """Tells models one by one; there is no list, since there is no end of them."""

    def operations(self) -> list[Operation]:
        """The endpoints of this class."""
        return [Operation("models.retrieve", "GET", "/models/{model}", "chat_completions", self.retrieve)]

    async def retrieve(self, call: Call) -> Answer:
        """A model."""
        check_model({"model": call.param("model")}, call.server)
        shown: Json = {"id": call.param("model"), "object": "model", "created": _MADE_AT, "owned_by": "stand-in"}
        return shown
