"""Approval of a tool's calls: whether one is needed, and the question that is asked."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Mapping
from typing import Any

from assistant_queue.errors import ConfigurationError

NeedsApproval = bool | str | Callable[..., Any] | None
"""Values of the parameter `approval` of `tool`."""

MOST_QUESTION_CHARS = 2000
"""Characters of a question. Chosen: a card on a screen, and two kilobytes of Redis at most."""


class AnswerLater:
    """Returned by a tool, or for a call by `handle_requires_action`: its output comes from outside.

    The batch parks until `answer_tool` is called with the call's id, or `approval_timeout` is over.
    """

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return "AnswerLater()"


def checked_approval(approval: Any, called: str, names: Collection[str]) -> NeedsApproval:
    """Return the parameter `approval` of a tool with these parameters.

    Raises:
        ConfigurationError: It is of a wrong type, or a question that names no parameter.
    """
    if approval is None or isinstance(approval, bool):
        return approval or None
    if isinstance(approval, str):
        _check_template(approval, called, names)
        return approval
    if callable(approval):
        return approval  # type: ignore[no-any-return]  # the user's own
    raise ConfigurationError(
        f"approval of the tool {called} must be True, a question such as 'Refund {{amount}}?' or a"
        f" function of the context and the arguments, not {approval!r}"
    )


def _check_template(template: str, called: str, names: Collection[str]) -> None:
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template)]
    except ValueError as error:
        raise ConfigurationError(
            f"the question of the tool {called} is not a template ({error}): {template!r}; write"
            " {{ and }} for braces"
        ) from None
    for field in fields:
        if field is not None and field not in names:
            raise ConfigurationError(
                f"the question of the tool {called} names {field!r}, which is not one of its"
                f" parameters ({', '.join(names) or 'none'}): {template!r}"
            )
    if not template.strip():
        raise ConfigurationError(f"the question of the tool {called} is blank")


def question_of(template: str, values: Mapping[str, Any]) -> str:
    """Return a question with the arguments of a call; "?" for one that was not given."""
    parts: list[str] = []
    for text, field, _, _ in string.Formatter().parse(template):
        parts.append(text)
        if field is not None:
            parts.append(str(values.get(field, "?")))
    return bounded("".join(parts))


def bounded(question: str) -> str:
    """Return a question that is not too long."""
    if len(question) <= MOST_QUESTION_CHARS:
        return question
    return question[: MOST_QUESTION_CHARS - 1] + "…"
