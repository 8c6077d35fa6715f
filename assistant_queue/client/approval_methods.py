"""Methods of both queue classes that answer tool calls from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assistant_queue.approvals import Approval, ApprovalLinks
from assistant_queue.client import approval_calls, approval_links
from assistant_queue.client.queue_core import QueueCore
from assistant_queue.config import Config
from assistant_queue.store.transport.stores import AsyncStore, SyncStore


class ApprovalMethods:
    """Approvals, blocking; docs/approvals.md shows them."""

    config: Config
    core: QueueCore[SyncStore]
    _store: SyncStore

    def list_approvals(
        self, limit: int = 100, after: str | None = None, thread_id: str | None = None
    ) -> list[Approval]:
        """Return the tool calls that wait for an answer from outside, oldest first.

        Args:
            limit: Most calls, 1 to 1000.
            after: The last `call_id` of the page before; None for the first page.
            thread_id: Those of one thread; None for all.

        Raises:
            InvalidArgument: There is no record of the call `after` any more.
        """
        return self._store.run(
            approval_calls.list_approvals(self.core.namespace, limit, after, thread_id)
        )

    def approve(
        self, call_id: str, *, by: str | None = None, arguments: Mapping[str, Any] | None = None
    ) -> bool:
        """Approve a call: a worker calls its function once, and the answer continues.

        The first of `approve`, `deny` and `answer_tool` counts.

        Args:
            call_id: `Approval.call_id`.
            by: A name, kept in the journal; `ToolContext.approved_by` has it.
            arguments: Instead of those that the model chose; None to change nothing. They are
                checked at once if the tool is registered here, else by the worker, whose output
                says what is wrong.

        Returns:
            False if the call was settled before.

        Raises:
            ApprovalNotFound: There is no such call. Nothing was changed.
            InvalidArgument: The arguments do not fit the function, or the call waits for an output.
                Nothing was changed.
        """
        return self._store.run(
            approval_calls.approve(self.core.namespace, self.config.toolbox, call_id, by, arguments)
        )

    def deny(self, call_id: str, *, by: str | None = None, reason: str | None = None) -> bool:
        """Deny a call: its function is not called, and the model reads that, with the reason.

        Args:
            call_id: `Approval.call_id`.
            by: A name, kept in the journal.
            reason: A text for the model, up to 2000 characters.

        Returns:
            False if the call was settled before.

        Raises:
            ApprovalNotFound: There is no such call. Nothing was changed.
        """
        return self._store.run(approval_calls.deny(self.core.namespace, call_id, by, reason))

    def answer_tool(self, call_id: str, output: Any, *, by: str | None = None) -> bool:
        """Give the output of a call that is answered later, or instead of an approval.

        Args:
            call_id: `Approval.call_id`; `ToolContext.call_id` is the same.
            output: As a tool returns it: a text, or what becomes JSON.
            by: A name, kept in the journal.

        Returns:
            False if the call was settled before.

        Raises:
            ApprovalNotFound: There is no such call, or its batch is not parked yet. Nothing was
                changed.
            InvalidArgument: The output cannot be written as JSON. Nothing was changed.
        """
        return self._store.run(approval_calls.answer_tool(self.core.namespace, call_id, output, by))

    def approval_links(
        self,
        call_id: str,
        *,
        base_url: str,
        by: str | None = None,
        expires_in: float | None = None,
    ) -> ApprovalLinks:
        """Return two addresses that approve and deny a call without a login, for a mail or a chat.

        Each opens a page of the HTTP service with the question and one button; opening it changes
        nothing. The first answer counts, wherever it is given. A link is a permission.

        Args:
            call_id: `Approval.call_id`.
            base_url: Address of the service, with the path of a proxy: `https://chat.example.com`;
                of `create_router` in your own app, with its prefix.
            by: The name that is kept of an answer by these links, signed in them.
            expires_in: Seconds for which they are valid; None for as long as the call is open, which
                is the most.

        Raises:
            ApprovalNotFound: There is no such open call.
            InvalidArgument: An argument is wrong, or the call waits for an output.
            ConfigurationError: There is no `approval_secret`.
        """
        return self._store.run(
            approval_links.make_links(
                self.core.namespace,
                self.config,
                call_id,
                base_url,
                by=by,
                expires_in=expires_in,
            )
        )


class AsyncApprovalMethods:
    """Approvals, for asyncio; docs/approvals.md shows them."""

    config: Config
    core: QueueCore[AsyncStore]
    _store: AsyncStore

    async def list_approvals(
        self, limit: int = 100, after: str | None = None, thread_id: str | None = None
    ) -> list[Approval]:
        """Return the tool calls that wait for an answer from outside, oldest first.

        Args:
            limit: Most calls, 1 to 1000.
            after: The last `call_id` of the page before; None for the first page.
            thread_id: Those of one thread; None for all.

        Raises:
            InvalidArgument: There is no record of the call `after` any more.
        """
        return await self._store.run(
            approval_calls.list_approvals(self.core.namespace, limit, after, thread_id)
        )

    async def approve(
        self, call_id: str, *, by: str | None = None, arguments: Mapping[str, Any] | None = None
    ) -> bool:
        """Approve a call: a worker calls its function once, and the answer continues.

        The first of `approve`, `deny` and `answer_tool` counts.

        Args:
            call_id: `Approval.call_id`.
            by: A name, kept in the journal; `ToolContext.approved_by` has it.
            arguments: Instead of those that the model chose; None to change nothing. They are
                checked at once if the tool is registered here, else by the worker, whose output
                says what is wrong.

        Returns:
            False if the call was settled before.

        Raises:
            ApprovalNotFound: There is no such call. Nothing was changed.
            InvalidArgument: The arguments do not fit the function, or the call waits for an output.
                Nothing was changed.
        """
        return await self._store.run(
            approval_calls.approve(self.core.namespace, self.config.toolbox, call_id, by, arguments)
        )

    async def deny(self, call_id: str, *, by: str | None = None, reason: str | None = None) -> bool:
        """Deny a call: its function is not called, and the model reads that, with the reason.

        Args:
            call_id: `Approval.call_id`.
            by: A name, kept in the journal.
            reason: A text for the model, up to 2000 characters.

        Returns:
            False if the call was settled before.

        Raises:
            ApprovalNotFound: There is no such call. Nothing was changed.
        """
        return await self._store.run(approval_calls.deny(self.core.namespace, call_id, by, reason))

    async def answer_tool(self, call_id: str, output: Any, *, by: str | None = None) -> bool:
        """Give the output of a call that is answered later, or instead of an approval.

        Args:
            call_id: `Approval.call_id`; `ToolContext.call_id` is the same.
            output: As a tool returns it: a text, or what becomes JSON.
            by: A name, kept in the journal.

        Returns:
            False if the call was settled before.

        Raises:
            ApprovalNotFound: There is no such call, or its batch is not parked yet. Nothing was
                changed.
            InvalidArgument: The output cannot be written as JSON. Nothing was changed.
        """
        return await self._store.run(
            approval_calls.answer_tool(self.core.namespace, call_id, output, by)
        )

    async def approval_links(
        self,
        call_id: str,
        *,
        base_url: str,
        by: str | None = None,
        expires_in: float | None = None,
    ) -> ApprovalLinks:
        """Return two addresses that approve and deny a call without a login, for a mail or a chat.

        Each opens a page of the HTTP service with the question and one button; opening it changes
        nothing. The first answer counts, wherever it is given. A link is a permission.

        Args:
            call_id: `Approval.call_id`.
            base_url: Address of the service, with the path of a proxy: `https://chat.example.com`;
                of `create_router` in your own app, with its prefix.
            by: The name that is kept of an answer by these links, signed in them.
            expires_in: Seconds for which they are valid; None for as long as the call is open, which
                is the most.

        Raises:
            ApprovalNotFound: There is no such open call.
            InvalidArgument: An argument is wrong, or the call waits for an output.
            ConfigurationError: There is no `approval_secret`.
        """
        return await self._store.run(
            approval_links.make_links(
                self.core.namespace,
                self.config,
                call_id,
                base_url,
                by=by,
                expires_in=expires_in,
            )
        )
