"""Limit the length of conversations, and shorten them on request."""

from __future__ import annotations

from collections.abc import Sequence

from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.response import Response
from assistant_queue.testing.provider.run import Run
from assistant_queue.testing.provider.script import RunFailure
from assistant_queue.testing.provider.state import Json, text_of
from assistant_queue.testing.provider.troubles import trouble_of, wording_of
from assistant_queue.testing.provider.wordings import Facts

OVERLONG = "context_length_exceeded"


def check_shortening(asked: Json, server: Personality) -> None:
    """Refuse to shorten a conversation, on a server that does not know how.

    Raises:
        ApiProblem: 400, unknown parameter.
    """
    wanted = {
        "truncation": asked.get("truncation") == "auto",
        "context_management": bool(asked.get("context_management")),
        "truncation_strategy": bool(asked.get("truncation_strategy")),
    }
    for name, is_wanted in wanted.items():
        if is_wanted and getattr(server, name) == "refused":
            raise ApiProblem(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)


def check_response(response: Response, server: Personality) -> None:
    """Apply this server's limit to a response over a conversation that is too long.

    The response is refused, fails, or leaves out the oldest items.

    Raises:
        ApiProblem: 400, `context_length_exceeded`.
    """
    asked = response.asked
    own = words_of(response.items)
    said = len((asked.get("instructions") or "").split())
    problem = _overlong(words_of(_since_compaction(response.context())) + said, server, "input")
    if problem is None:
        return
    if _overlong(own + said, server, "input") is None:
        if asked.get("context_management") and server.context_management == "takes":
            response.is_compacted = True
            return
        if server.truncation == "always" or (
            asked.get("truncation") == "auto" and server.truncation == "takes"
        ):
            return
    _refuse(problem, server)
    response.failure = failure_of(problem)


def check_run(run: Run, server: Personality) -> None:
    """Refuse a run over a thread that is too long.

    Nothing happens on a server that lets the run fail instead.

    Raises:
        ApiProblem: 400, `context_length_exceeded`.
    """
    _refuse(overlong_run(run, server), server)


def overlong_run(run: Run, server: Personality) -> ApiProblem | None:
    """Return the error of a run that is too long at its present round, None if it is not."""
    said = [run.instructions, *(output.output for output in run.outputs)]
    return _overlong(
        words_of(read_by(run, server)) + sum(len(text.split()) for text in said), server, None
    )


def read_by(run: Run, server: Personality) -> list[Json]:
    """Return the messages that a run reads.

    Those of its thread and those that came with it, or the last of them.
    """
    known = {message["id"] for message in run.thread.messages}
    messages = [
        *run.thread.messages,
        *(message for message in run.added if message["id"] not in known),
    ]
    strategy = run.asked.get("truncation_strategy") or {}
    if strategy.get("type") == "last_messages" and server.truncation_strategy == "takes":
        return messages[-int(strategy["last_messages"]) :]
    return messages


def overlong_messages(messages: Sequence[Json], server: Personality) -> ApiProblem | None:
    """Return the error of a chat completion that is too long, None if it is not."""
    if server.truncation == "always":
        return None
    return _overlong(words_of(messages), server, "messages")


def check_messages(messages: Sequence[Json], server: Personality) -> None:
    """Refuse a chat completion that is too long.

    Nothing happens on a server that lets it fail instead.

    Raises:
        ApiProblem: 400, `context_length_exceeded`.
    """
    _refuse(overlong_messages(messages, server), server)


def failure_of(problem: ApiProblem) -> RunFailure:
    """Return the failure of a run that was accepted all the same."""
    return RunFailure(str(problem.code or OVERLONG), problem.message)


def words_of(items: Sequence[Json]) -> int:
    """Return the words of items or messages: texts, arguments of calls, outputs."""
    return sum(len(text.split()) for item in items for text in _texts_of(item))


def _texts_of(item: Json) -> list[str]:
    found = [text_of(item), str(item.get("arguments") or "")]
    output = item.get("output")
    found.append(
        output
        if isinstance(output, str)
        else text_of({"content": output if isinstance(output, list) else ()})
    )
    found += [
        str((call.get("function") or {}).get("arguments") or "")
        for call in item.get("tool_calls") or ()
    ]
    return found


def _since_compaction(items: Sequence[Json]) -> Sequence[Json]:
    places = [place for place, item in enumerate(items) if item.get("type") == "compaction"]
    return items[places[-1] :] if places else items


def _refuse(problem: ApiProblem | None, server: Personality) -> None:
    if problem is not None and not _fails_instead(server):
        raise problem


def _fails_instead(server: Personality) -> bool:
    return server.context_outcome == "failed" or wording_of(server, "overflow").is_failed_run


def _overlong(words: int, server: Personality, param: str | None) -> ApiProblem | None:
    if server.context_words is None or words <= server.context_words:
        return None
    if server.context_outcome == "unsaid":
        return ApiProblem("Bad request.")
    problem = trouble_of(server, "overflow", Facts(limit=server.context_words, words=words))
    problem.param = param if problem.param == "messages" else problem.param
    return problem
