"""Serve the endpoints under /models.

This server has every model that is asked for, unless its personality names its models.
"""

from __future__ import annotations

from assistant_queue.testing.provider.chat_refusals import check_model
from assistant_queue.testing.provider.routing import Answer, ApiCall, Operation
from assistant_queue.testing.provider.state import Json

_MADE_AT = 1_700_000_000
"""Creation time of the models, seconds since the epoch. Chosen: any time in the past."""


class ModelsApi:
    """Describe models one by one; there is no list, because any name is a model."""

    def operations(self) -> list[Operation]:
        """The endpoints of this class."""
        return [
            Operation(
                "models.retrieve", "GET", "/models/{model}", "chat_completions", self.retrieve
            )
        ]

    async def retrieve(self, call: ApiCall) -> Answer:
        """A model."""
        check_model({"model": call.param("model")}, call.server)
        shown: Json = {
            "id": call.param("model"),
            "object": "model",
            "created": _MADE_AT,
            "owned_by": "stand-in",
        }
        return shown
