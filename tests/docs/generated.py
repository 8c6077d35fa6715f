"""The parts of the documentation that the code knows better: rendered here, compared by a test, written with

python -m tests.docs.generated
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic_core import PydanticUndefined

from assistant_queue.backends import remedies
from assistant_queue.config import ENV_PREFIX, Config
from assistant_queue.core.thread_state import diagram
from assistant_queue.event_models import EVENTS
from assistant_queue.testing.provider import NAMED
from assistant_queue.trouble import FATES, MEANING
from tests.integration import request_matrix

ROOT = Path(__file__).parent.parent.parent

_MARKED = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def options_table() -> str:
    """Every option of `Config`: name, type, unit, default, where it acts, meaning, environment variable."""
    head = ["option", "type", "unit", "default", "acts in", "meaning", "environment"]
    rows = [_row(name) for name in Config.model_fields]
    return "\n".join(_line(row) for row in [head, ["---"] * len(head), *rows])


def _row(name: str) -> list[str]:
    field = Config.model_fields[name]
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    variable = environment_variable(name)
    return [
        f"`{name}`",
        _type_name(field.annotation),
        str(extra["unit"]) or "-",
        f"`{_default(field.get_default(call_default_factory=True))}`",
        str(extra["where"]),
        str(field.description),
        f"`{variable}`" if variable else "-",
    ]


def fates_table() -> str:
    """What follows from each kind of trouble, in the order of the table in the code."""
    meaning = [f"- **{fate.value}**: {sentence}." for fate, sentence in MEANING.items()]
    head = ["kind", "told by", "fate"]
    rows = [[f"`{kind.value}`", row.told_by, row.fate.value] for kind, row in FATES.items()]
    return "\n".join([*meaning, "", *(_line(row) for row in [head, ["---"] * len(head), *rows])])


def remedies_table() -> str:
    """What is sent in another form once a server has refused it."""
    head = ["remedy", "on", "what is different then"]
    rows = [[f"`{one.name}`", ", ".join(_protocols(one)), one.effect] for one in remedies.ALL]
    return "\n".join(_line(row) for row in [head, ["---"] * len(head), *rows])


def _protocols(remedy: remedies.Remedy) -> list[str]:
    chosen = {"Chat Completions": remedies.CHAT, "Responses": (*remedies.RESPONSES, remedies.TRUNCATION, remedies.COMPACTION)}
    return [name for name, known in chosen.items() if remedy in known] or ["Assistants"]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def environment_variable(name: str) -> str | None:
    """The variable an option is read from; None for what only Python can make."""
    field = Config.model_fields[name]
    if set(_leaves(field.annotation)) <= {Any, Callable, type(None)}:
        return None
    if isinstance(field.validation_alias, AliasChoices):
        return next(str(one) for one in field.validation_alias.choices if one != name)
    return f"{ENV_PREFIX}{name.upper()}"


def _leaves(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in {Union, types.UnionType}:
        for one in get_args(annotation):
            yield from _leaves(one)
    elif get_origin(annotation) is Callable or getattr(get_origin(annotation), "__name__", "") == "Callable":
        yield Callable
    else:
        yield annotation


def _type_name(annotation: Any) -> str:
    words = []
    for leaf in _leaves(annotation):
        if leaf is Any:
            words.append("object")
        elif leaf is Callable:
            words.append("callable")
        elif leaf is type(None):
            words.append("None")
        elif get_origin(leaf) is Literal:
            words += [f'`"{word}"`' for word in get_args(leaf)]
        else:
            origin = get_origin(leaf) or leaf
            inner = get_args(leaf) if origin is not leaf else ()
            plain = {"SecretStr": "str", "BackoffOptions": "dict", "Annotated": "float"}
            name = plain.get(getattr(origin, "__name__", str(origin)), getattr(origin, "__name__", str(origin)))
            words.append(f"list of {getattr(get_origin(inner[0]) or inner[0], '__name__', inner[0])}" if name == "list" and inner else name)
    return " or ".join(words)


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return repr(value.model_dump()).replace("'", '"')
    if value is PydanticUndefined:
        return "required"
    return repr(value).replace("'", '"') if isinstance(value, str) else repr(value)


def thread_diagram() -> str:
    """The thread's states as Mermaid."""
    return f"```mermaid\n{diagram()}\n```"


def events_table() -> str:
    """Every event: its type, its class, its own fields, what it says."""
    head = ["`type`", "class", "fields", "says"]
    return "\n".join(_line(row) for row in [head, ["---"] * len(head), *map(_event_row, EVENTS)])


def _event_row(kind: type[Any]) -> list[str]:
    shared = {"id", "thread_id", "at", "type"}
    names = [one.name for one in dataclasses.fields(kind) if one.name not in shared]
    default = next(one.default for one in dataclasses.fields(kind) if one.name == "type")
    return [f"`{default}`", f"`{kind.__name__}`", ", ".join(f"`{name}`" for name in names), str(kind.__doc__).splitlines()[0]]


def servers_table() -> str:
    """Every server that the stand-in can be: its name, what differs, what the queue does about it."""
    head = ["`personality=`", "the server", "protocols", "what differs", "what the queue does"]
    words = {"responses": "Responses", "assistants": "Assistants", "chat_completions": "Chat"}
    rows = [
        [f"`{name}`", one.title, ", ".join(words[protocol] for protocol in one.personality.speaks), one.differs, one.remedy]
        for name, one in NAMED.items()
    ]
    return "\n".join(_line(row) for row in [head, ["---"] * len(head), *rows])


def troubles_table() -> str:
    """Every kind of trouble that a server can be told to have, and what the queue does about it."""
    head = ["`trouble(...)`", "the server", "what the queue does"]
    return "\n".join(_line(row) for row in [head, ["---"] * len(head), *([f"`{kind}`", *row] for kind, row in TROUBLES.items())])


TROUBLES: dict[str, tuple[str, str]] = {
    "rate_limited": ("has had too many requests", "waits, as long as the server says if it does; no attempt is used up"),
    "overloaded": ("has too much to do", "waits; no attempt is used up"),
    "loading": ("loads the model", "waits; no attempt is used up"),
    "gateway": ("cannot be reached by the proxy before it", "waits; no attempt is used up"),
    "unknown_path": ("does not know the address", "waits, and says what to check"),
    "server_error": ("failed", "tries again; an attempt is used up"),
    "moderated": ("does not take the prompt", "gives the batch up at once: `refused`"),
    "unknown_model": ("does not know the model", "gives the batch up at once: `refused`"),
    "wrong_key": ("does not know the key", "gives the batch up at once: `refused`"),
    "no_quota": ("wants to be paid", "gives the batch up at once: `refused`"),
    "overflow": ("cannot read so much", "sends less of the conversation"),
}

PARTS: dict[str, Callable[[], str]] = {
    "options": options_table,
    "thread-diagram": thread_diagram,
    "request-outcomes": request_matrix.table,
    "chat-outcomes": request_matrix.chat_table,
    "listing-outcomes": request_matrix.listing_table,
    "events": events_table,
    "fates": fates_table,
    "remedies": remedies_table,
    "servers": servers_table,
    "troubles": troubles_table,
}


def documents() -> list[Path]:
    """README, the documents and the examples' page."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]


def refreshed(text: str) -> str:
    """The text with its generated parts as they ought to be."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{PARTS[found['name']]()}\n\n{found[3]}", text)


def names_in(text: str) -> list[str]:
    """The generated parts that a text has."""
    return [found["name"] for found in _MARKED.finditer(text)]


def main() -> None:
    """Write the generated parts of every document."""
    for document in documents():
        text = document.read_text(encoding="utf-8")
        document.write_text(refreshed(text), encoding="utf-8")


if __name__ == "__main__":
    main()
