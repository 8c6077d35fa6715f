"""Whether a server knows a model: asked before any message is sent, where it can be asked."""

from __future__ import annotations

from functools import partial

from assistant_queue.backends.openai_clients import Channel
from assistant_queue.backends.streams import fetch
from assistant_queue.errors import RequestRefused
from assistant_queue.trouble import Kind


async def find_model(channel: Channel, model: str | None) -> str | None:
    """Ask for a model by its name.

    Returns:
        What the server knows, in words; None if no model is named, or if this server does not tell its models one by one.

    Raises:
        BackendError: The server was asked and does not know the model, refuses the key, or did not answer.
    """
    if model is None:
        return None
    retrieve = channel.reading.models.with_streaming_response.retrieve
    try:
        await fetch(partial(retrieve, model), thread="(doctor)", missing=RequestRefused)
    except RequestRefused as error:
        if error.trouble is not None and error.trouble.kind in {Kind.WRONG_ADDRESS, Kind.MALFORMED}:
            return None
        raise
    return f"model {model!r}"
