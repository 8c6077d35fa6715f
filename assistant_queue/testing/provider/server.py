"""The strict stand-in provider: what a test or a demo starts, scripts and questions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from assistant_queue.backends.openai import remedies
from assistant_queue.testing.provider import assistants_wire
from assistant_queue.testing.provider.actions import Action
from assistant_queue.testing.provider.asgi import build_app
from assistant_queue.testing.provider.chat_api import ChatApi
from assistant_queue.testing.provider.conversations_api import ConversationsApi
from assistant_queue.testing.provider.faults import Fault
from assistant_queue.testing.provider.gates import Gate, Point
from assistant_queue.testing.provider.invariants import Oracle
from assistant_queue.testing.provider.log import Request, RunRecord
from assistant_queue.testing.provider.loopback import LOOPBACK, LoopbackServer, Served
from assistant_queue.testing.provider.models_api import ModelsApi
from assistant_queue.testing.provider.personalities import personality_of
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.responses_api import ResponsesApi
from assistant_queue.testing.provider.responses_engine import ResponsesEngine
from assistant_queue.testing.provider.run import Run
from assistant_queue.testing.provider.runs_api import RunsApi
from assistant_queue.testing.provider.runs_engine import RunsEngine
from assistant_queue.testing.provider.script import ModelScript, Protocol, echo
from assistant_queue.testing.provider.state import World
from assistant_queue.testing.provider.threads_api import ThreadsApi
from assistant_queue.testing.provider.webhooks import WebhookEndpoint

# Source: the provider's published API description: a run expires ten minutes after its creation.
_RUN_EXPIRES_AFTER_S = 600.0

# Source: the provider's guide: a background response is kept for about ten minutes.
_BACKGROUND_KEPT_FOR_S = 600.0


class StandInProvider(Served, Oracle):
    """Serve the three protocols on loopback by a real, strict HTTP server.

    Responses + Conversations, the Assistants protocol and Chat Completions.

    1. `start`/`stop`, or a `with` block: a server thread with its own event loop.
    2. `base_url`, `api_key`, `assistant_id`: the arguments of a client.
    3. `fault`, `hold`, `personality`, `model`: its behaviour, changeable at any time.
    4. `log`, `requests`, `runs`, `overlaps`, `refusals`, `user_texts`, `items`: its history.
    5. `wait_for`: blocks the calling thread until something has happened; from a coroutine use
       `asyncio.to_thread`.

    Work continues whether or not its client reads: a response or run finishes and is stored even if
    its connection is lost.
    """

    def __init__(
        self,
        model: ModelScript = echo,
        *,
        latency: float = 0.05,
        strict: bool = True,
        personality: Personality | str | None = None,
        run_expires_after: float = _RUN_EXPIRES_AFTER_S,
        background_kept_for: float = _BACKGROUND_KEPT_FOR_S,
        api_key: str | None = None,
        port: int = 0,
        host: str = LOOPBACK,
    ) -> None:
        """Describe a provider; nothing runs before `start`.

        Args:
            model: What the model says; called on the server's thread, so it must not block.
            latency: Seconds each answer of the model takes unless its outcome says otherwise; 0 for
                no waiting at all.
            strict: Unknown fields and values beyond the provider's limits are refused.
            personality: How this server differs from OpenAI's: a `Personality`, or the name of a
                server, `vllm` say.
            run_expires_after: Seconds until an Assistants run expires.
            background_kept_for: Seconds after its end for which a background response can be
                retrieved; what it left in a conversation stays.
            api_key: The only key accepted; None makes one up.
            port: 0 takes a free one.
            host: The IPv4 address to listen at: 0.0.0.0 in a container, for those beside it.

        Raises:
            UnknownPersonality: No server of this name is known.
        """
        self.api_key = api_key or f"sk-stand-in-{secrets.token_hex(12)}"
        world = World(
            model=model,
            latency=latency,
            strict=strict,
            personality=personality_of(personality),
            run_expires_after=run_expires_after,
            background_kept_for=background_kept_for,
        )
        super().__init__(world)
        assistant = assistants_wire.assistant_json({"model": "stand-in-model", "name": "Stand-in"})
        self._world.assistants[assistant["id"]] = assistant
        self.assistant_id: str = assistant["id"]
        self._responses = ResponsesEngine(self._world)
        self._runs = RunsEngine(self._world)
        operations = [
            *ResponsesApi(self._world, self._responses).operations(),
            *ConversationsApi(self._world).operations(),
            *RunsApi(self._world, self._runs).operations(),
            *ThreadsApi(self._world).operations(),
            *ChatApi(self._world).operations(),
            *ModelsApi().operations(),
        ]
        self._server = LoopbackServer(
            lambda drop: build_app(operations, self._world, self.api_key, drop), port, host
        )

    def start(self) -> None:
        """Start serving; returns when the port answers."""
        super().start()
        remedies.forget(self.base_url)  # another server may have had the port

    @property
    def base_url(self) -> str:
        """The address for the client's `base_url`."""
        return f"http://127.0.0.1:{self._server.port}/v1"

    @property
    def model(self) -> ModelScript:
        """Model script; may be replaced at any time."""
        return self._world.model

    @model.setter
    def model(self, model: ModelScript) -> None:
        self._world.model = model

    @property
    def personality(self) -> Personality:
        """Differences from OpenAI's server; may be replaced at any time, also by a name."""
        return self._world.personality

    @personality.setter
    def personality(self, personality: Personality | str) -> None:
        self._world.personality = personality_of(personality)
        remedies.forget(self.base_url)

    @property
    def latency(self) -> float:
        """Seconds each answer of the model takes unless its outcome says otherwise."""
        return self._world.latency

    @latency.setter
    def latency(self, latency: float) -> None:
        self._world.latency = latency

    def fault(
        self,
        op: str,
        *actions: Action,
        conversation_id: str | None = None,
        protocol: Protocol | None = None,
        nth: int = 1,
        times: int | None = 1,
        when: Callable[[Request], bool] | None = None,
    ) -> Fault:
        """Let requests go wrong.

        Args:
            op: Which operation, such as `responses.create`, `runs.create`, `submit`; `*` and
                `runs.*` work too.
            actions: What happens to it; several may be combined.
            conversation_id: Only requests about this conversation or thread.
            protocol: Only requests of this protocol.
            nth: The first matching request it acts on, counted from 1.
            times: How many times; None for ever.
            when: Only requests for which this holds; called on the server's thread.

        Returns:
            The rule; `matched` and `acted` count.
        """
        return self._world.faults.add(
            Fault(
                op,
                actions,
                conversation_id=conversation_id,
                protocol=protocol,
                nth=nth,
                times=times,
                when=when,
            )
        )

    def clear_faults(self) -> None:
        """Take all faults away."""
        self._world.faults.clear()

    def hold(
        self,
        point: Point = "accepted",
        *,
        conversation_id: str | None = None,
        when: Callable[[RunRecord], bool] | None = None,
        times: int | None = None,
    ) -> Gate:
        """Make runs pause until `release()`.

        Args:
            point: `accepted`: the client has its id, nothing was done yet (and again after tool
                outputs); `speaking`: all but the last piece of a text was said; `completing`: all
                was said, nothing is stored; `appending`: before items that a fault delays join the
                conversation.
            conversation_id: Only runs of this conversation or thread.
            when: Only runs for which this holds; called on the server's thread.
            times: How many runs are held; None for all until the release.
        """
        return self._world.gates.add(Gate(point, conversation_id, when, times))

    def send_webhooks(self, url: str, secret: str | None = None) -> WebhookEndpoint:
        """Send signed webhooks about background responses that end from now on.

        Args:
            url: Where to.
            secret: `whsec_` and a key in base64; None makes one up.
        """
        endpoint = WebhookEndpoint(url, secret, self._server.call)
        self._world.endpoints.append(endpoint)
        return endpoint

    def create_conversation(self, metadata: Mapping[str, str] | None = None) -> str:
        """A new conversation without a request in the log; its id."""
        return self._server.call(lambda: self._world.new_conversation(metadata or {}).id)

    def create_thread(self, metadata: Mapping[str, str] | None = None) -> str:
        """A new thread without a request in the log; its id."""
        return self._server.call(lambda: self._world.new_thread(metadata or {}).id)

    def vanish(self, run_id: str) -> None:
        """Forget a run or response now: retrieving it is a 404, its streams are cut."""
        self._server.call(lambda: self._end(run_id, "vanish"))

    def restart(self) -> None:
        """Crash and restart the server process.

        All streams of responses are cut, and open responses stay open for ever.
        """
        self._server.call(self._strand_all)

    def _strand_all(self) -> None:
        for response in tuple(self._world.responses.values()):
            self._responses.strand(response)

    def expire(self, run_id: str) -> None:
        """Let a run expire now."""
        self._server.call(lambda: self._end(run_id, "expire"))

    def _end(self, run_id: str, how: str) -> None:
        response = self._world.responses.get(run_id)
        if response is not None:
            if how == "expire":
                raise ValueError(f"{run_id} is a response: only runs expire")
            self._responses.vanish(response)
            return
        run = self._find_run(run_id)
        (self._runs.expire if how == "expire" else self._runs.vanish)(run)

    def _find_run(self, run_id: str) -> Run:
        for thread in self._world.threads.values():
            if run_id in thread.runs:
                return thread.runs[run_id]
        raise LookupError(f"No run or response {run_id}")
