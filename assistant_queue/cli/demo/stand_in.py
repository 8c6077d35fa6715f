"""The provider: the strict stand-in with the scene's faults, or with `--live` the real service."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from assistant_queue.cli.demo.scene import Scene
from assistant_queue.cli.exit_errors import Misuse
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Request, refuse
from assistant_queue.testing.provider.actions import Refuse

Protocol = Literal["responses", "assistants"]

STARTS: Mapping[Protocol, str] = {"responses": "responses.create", "assistants": "runs.create"}
"""The operation that starts a run."""
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoProvider:
    """The provider of a demo.

    Attributes:
        name: For people.
        variables: What a worker needs in its environment.
        stand_in: Its own log is the oracle; None for the real service.
    """

    name: str
    variables: Mapping[str, str]
    stand_in: StandInProvider | None = None


@contextlib.contextmanager
def stand_in_service(scene: Scene, protocol: Protocol) -> Iterator[DemoProvider]:
    """Run the stand-in with the faults of the scene."""
    with StandInProvider(scene.model()) as provider:
        for text in scene.refused:
            provider.fault(STARTS[protocol], too_many(), when=_holds(text))
        for number in scene.refuses_nth:
            provider.fault(STARTS[protocol], too_many(), nth=number)
        which = (
            {"OPENAI_ASSISTANT_ID": provider.assistant_id}
            if protocol == "assistants"
            else {"ASSISTANT_QUEUE_MODEL": "stand-in-model"}
        )
        variables = {
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": provider.api_key,
            **which,
        }
        yield DemoProvider(
            name=f"stand-in provider ({protocol})", variables=variables, stand_in=provider
        )


def too_many() -> Refuse:
    """Refuse a request as one of too many."""
    return refuse(429, "rate_limit_exceeded", "Too many requests", retry_after=RETRY_AFTER_S)


def _holds(text: str) -> Callable[[Request], bool]:
    def holds(request: Request) -> bool:
        return text in json.dumps(request.body, ensure_ascii=False)

    return holds


def live_service(protocol: Protocol, model: str | None) -> DemoProvider:
    """Return the real service, configured by the environment.

    Raises:
        Misuse: The key, the model or the assistant is missing.
    """
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise Misuse("--live needs a key: set OPENAI_API_KEY")
    variables = {"OPENAI_API_KEY": key}
    if os.environ.get("OPENAI_BASE_URL"):
        variables["OPENAI_BASE_URL"] = os.environ["OPENAI_BASE_URL"]
    if protocol == "responses":
        if not model:
            raise Misuse("--live needs to know whom to ask: give --model NAME")
        return DemoProvider(
            name=f"the real service, model {model}",
            variables={**variables, "ASSISTANT_QUEUE_MODEL": model},
        )
    assistant = os.environ.get("OPENAI_ASSISTANT_ID")
    if not assistant:
        raise Misuse("--live --protocol assistants needs an assistant: set OPENAI_ASSISTANT_ID")
    run_options = {"ASSISTANT_QUEUE_RUN_OPTIONS": json.dumps({"model": model})} if model else {}
    return DemoProvider(
        name=f"the real service, assistant {assistant}",
        variables={**variables, "OPENAI_ASSISTANT_ID": assistant, **run_options},
    )
