"""Ask a server whether it knows the model, before any message is sent."""

from __future__ import annotations

from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.sending import path_of
from assistant_queue.backends.openai.streams import fetch
from assistant_queue.errors import RequestRefused
from assistant_queue.trouble import Kind


async def find_model(channel: ProviderChannel, model: str | None) -> str | None:
    """Ask for a model by its name.

    Returns:
        A description of the model; None if no model is named, or if this server does not retrieve
        models one by one.

    Raises:
        BackendError: The server was asked and does not know the model, refuses the key, or did not
            answer.
    """
    if model is None:
        return None
    retrieve = channel.read(path_of("models", model))
    try:
        await fetch(retrieve, thread="(doctor)", missing=RequestRefused)
    except RequestRefused as error:
        if error.trouble is not None and error.trouble.kind in {Kind.WRONG_ADDRESS, Kind.MALFORMED}:
            return None
        raise
    return f"model {model!r}"
