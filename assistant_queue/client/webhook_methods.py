"""Webhooks of the provider, for both queue classes: they wake batches that wait for their runs."""

from __future__ import annotations

from collections.abc import Mapping

from assistant_queue.client.commands import Commands
from assistant_queue.errors import ConfigurationError, InvalidArgument
from assistant_queue.store.calls import Operation
from assistant_queue.store.ops import provider_webhooks
from assistant_queue.store.transport.stores import AsyncStore, SyncStore


class TakesWebhooks:
    """The blocking queue's method for webhooks."""

    _commands: Commands
    _store: SyncStore

    def handle_provider_webhook(self, body: bytes | str, headers: Mapping[str, str]) -> bool:
        """Take a webhook of the provider: the batch that waits for its run is looked at now.

        Call it from your own route with the raw body; `assistant-queue serve` has one. The client
        library checks the signature by `webhook_secret`. A webhook that comes twice, or about a run
        that no batch waits for, changes nothing; answer it with a 2xx all the same. One that comes
        before its batch is parked is remembered.

        Args:
            body: As it was received.
            headers: Of the request: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

        Returns:
            True if it woke a batch.

        Raises:
            NotAuthenticated: The signature is missing, wrong, or older than five minutes.
            InvalidPayload: The body is longer than a webhook, or no event.
            ConfigurationError: There is no `webhook_secret`.
            StoreUnavailable: Redis did not answer. Answer with a 5xx: the provider sends it again.
        """
        operation = _operation(self._commands, body, headers)
        return False if operation is None else self._store.run(operation)


class TakesWebhooksAwaited:
    """The asyncio queue's method for webhooks."""

    _commands: Commands
    _store: AsyncStore

    async def handle_provider_webhook(self, body: bytes | str, headers: Mapping[str, str]) -> bool:
        """Take a webhook of the provider: the batch that waits for its run is looked at now.

        Call it from your own route with the raw body; `assistant-queue serve` has one. The client
        library checks the signature by `webhook_secret`. A webhook that comes twice, or about a run
        that no batch waits for, changes nothing; answer it with a 2xx all the same. One that comes
        before its batch is parked is remembered.

        Args:
            body: As it was received.
            headers: Of the request: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

        Returns:
            True if it woke a batch.

        Raises:
            NotAuthenticated: The signature is missing, wrong, or older than five minutes.
            InvalidPayload: The body is longer than a webhook, or no event.
            ConfigurationError: There is no `webhook_secret`.
            StoreUnavailable: Redis did not answer. Answer with a 5xx: the provider sends it again.
        """
        operation = _operation(self._commands, body, headers)
        return False if operation is None else await self._store.run(operation)


def _operation(
    commands: Commands, body: bytes | str, headers: Mapping[str, str]
) -> Operation[bool] | None:
    """Return the operation of a webhook; None for an event that is about no run."""
    # A process that only adds messages imports no backend.
    from assistant_queue.backends.openai.webhook_reader import read_event

    raw = body.encode() if isinstance(body, str) else body
    if not isinstance(raw, bytes | bytearray) or not isinstance(headers, Mapping):
        raise InvalidArgument("Invalid webhook: expected the raw body and the request's headers")
    secret = commands.config.webhook_secret
    if secret is None:
        raise ConfigurationError("webhook_secret is missing: give it, or set OPENAI_WEBHOOK_SECRET")
    event = read_event(bytes(raw), headers, secret.get_secret_value())
    if event.run_id is None:
        return None
    return provider_webhooks.run_ended(commands.namespace, event.run_id, event.id)
