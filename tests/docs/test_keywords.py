"""The constructor's keywords, help and signature say what the model of the options says."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

import pytest
from pydantic import BaseModel, SecretStr

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue
from assistant_queue.config import Config
from assistant_queue.config.keywords import Options
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.models import MessageState, MessageStateName, ThreadStateName
from tests.docs import keyword_docs

QUEUES = [AssistantMessageQueue, AsyncAssistantMessageQueue]


def kinds(annotation: Any) -> set[Any]:
    """Values that an annotation accepts, in words that the model and the keywords share."""
    if get_origin(annotation) in {Union, types.UnionType}:
        return set().union(*(kinds(one) for one in get_args(annotation)))
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if get_origin(annotation) is Annotated:
        return kinds(get_args(annotation)[0])
    plain = get_origin(annotation) or annotation
    if plain in {Callable, Sequence, Mapping, Any}:
        return {plain}
    if plain is SecretStr:
        return {str}
    if is_typeddict(plain) or issubclass(plain, dict | BaseModel):
        return {Mapping}
    if plain is list:
        return {Sequence}
    return {Callable} if "__call__" in vars(plain) else {plain}


@pytest.mark.parametrize("name", Config.model_fields)
def test_a_keyword_has_the_type_of_its_option(name: str) -> None:
    if name in {"validators", "channels"}:  # the model checks them itself
        assert Config.model_fields[name].annotation is Any
        return
    assert kinds(Options.__annotations__[name]) == kinds(Config.model_fields[name].annotation)


def test_the_keywords_are_the_options_in_their_order() -> None:
    assert list(Options.__annotations__) == list(Config.model_fields)


def test_hover_shows_meaning_unit_default_and_variable_of_each_keyword() -> None:
    source = keyword_docs.SOURCE.read_text(encoding="utf-8")
    assert keyword_docs.rendered(source) == source, "run: python -m tests.docs.keyword_docs"
    shown = keyword_docs.docstring_of("message_delay")
    assert "Default: 10.0 s. Environment: ASSISTANT_QUEUE_MESSAGE_DELAY." in shown
    assert "Default: None, in s." in keyword_docs.docstring_of("max_wait")


@pytest.mark.parametrize("queue", QUEUES)
def test_help_has_meaning_unit_and_default_of_each_option(queue: type) -> None:
    shown = str(inspect.getdoc(queue))
    for name, field in Config.model_fields.items():
        (line,) = [line for line in shown.splitlines() if line.strip().startswith(f"{name} (")]
        assert str(field.description)[1:] in line
    assert "message_delay (10.0 s): " in shown
    assert "max_wait (None, in s): " in shown


@pytest.mark.parametrize("queue", QUEUES)
def test_the_signature_shows_plain_types(queue: type) -> None:
    shown = str(inspect.signature(queue))
    for internal in (
        "Annotated",
        "FieldInfo",
        "SecretStr",
        "annotated_types",
        "pydantic",
        "Options(",
    ):
        assert internal not in shown
    assert "BackoffKeywords = {'type': 'exponential', 'delay': 5.0}" in shown
    assert "message_delay: float = 10.0" in shown
    assert "window: Literal['fixed', 'sliding', 'adaptive'] = 'fixed'" in shown


def test_words_for_states_are_those_of_the_enums() -> None:
    assert get_args(MessageStateName) == tuple(state.value for state in MessageState)
    assert get_args(ThreadStateName) == tuple(state.value for state in ThreadState)
