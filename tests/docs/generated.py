"""Parts of the documentation that come from the code.

`python -m tests.docs.generated` writes them; a test compares them.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import AliasChoices, BaseModel
from pydantic_core import PydanticUndefined

from assistant_queue.backends.openai import remedies
from assistant_queue.cli.explain import lines_of
from assistant_queue.config import ENV_PREFIX, Config
from assistant_queue.core import delivery, explaining, failure_table
from assistant_queue.core.explaining import explanation
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import RunEnded
from assistant_queue.core.stored_rows import AttemptRow
from assistant_queue.core.thread_state import ThreadState, diagram
from assistant_queue.events import EVENTS
from assistant_queue.integrations.prometheus.families import FAMILIES, Family
from assistant_queue.models import ErrorInfo
from assistant_queue.testing.provider import NAMED
from assistant_queue.trouble import FATES, MEANING
from tests.integration import request_matrix

ROOT = Path(__file__).parent.parent.parent
COLUMNS = 100

_MARKED = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def options_list() -> str:
    """Every option of `Config`: type, default, meaning, place, environment variable."""
    return "\n".join(_item(_option(name)) for name in Config.model_fields)


def _option(name: str) -> str:
    field = Config.model_fields[name]
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    facts = [_type_name(field.annotation)]
    if extra["unit"]:
        facts.append("seconds" if extra["unit"] == "s" else str(extra["unit"]))
    facts.append(f"default `{_default(field.get_default(call_default_factory=True))}`")
    variable = environment_variable(name)
    places = {"both": "producers and workers", "producer": "producers", "worker": "workers"}
    acts = f"Acts in {places[str(extra['where'])]}."
    read = f" Environment: `{variable}`." if variable else ""
    return f"`{name}` ({', '.join(facts)}): {field.description}. {acts}{read}"


def _item(text: str) -> str:
    """A list item, wrapped at 100 columns, without a break in inline code."""
    lines = ["-"]
    for word in re.findall(r"(?:`[^`]*`|[^\s`])+", text):
        if len(lines[-1]) + 1 + len(word) > COLUMNS:
            lines.append(" ")
        lines[-1] += f" {word}"
    return "\n".join(lines)


def fates_table() -> str:
    """Consequence of each kind of trouble, in the order of the table in the code."""
    meaning = [_item(f"**{fate.value}**: {sentence}.") for fate, sentence in MEANING.items()]
    parts = ["\n".join(meaning)]
    for fate in MEANING:
        rows = [(kind, row) for kind, row in FATES.items() if row.fate is fate]
        items = "\n".join(_item(f"`{kind.value}`: {row.signs}.") for kind, row in rows)
        parts.append(f"Kinds that have the fate **{fate.value}**:\n\n{items}")
    return "\n\n".join(parts)


def failures_table() -> str:
    """Meaning of each failure of a batch, in the order in which the flow reads it."""
    head = ["failure", "if", "phase", "decision", "attempt"]
    rows = [
        [
            ", ".join(map(_failure_name, row.failures)),
            row.when.words or "-",
            ", ".join(f"`{phase.value}`" for phase in sorted(row.phases)) or "any",
            f"**{row.decision.value}**" + (f": `{row.reason}`" if row.reason else ""),
            _ATTEMPTS[row.attempts],
        ]
        for row in failure_table.FAILURES
    ]
    return _decisions_table(head, rows, {row.decision for row in failure_table.FAILURES})


def delivery_failures_table() -> str:
    """Meaning of each failure of a delivery, in the order in which the worker reads it."""
    head = ["failure", "if", "decision", "attempt"]
    rows = [
        [
            _DELIVERY_NAMES.get(row.failure.__name__, f"`{row.failure.__name__}`"),
            row.words or "-",
            f"**{row.decision.value}**",
            "used up" if row.counts else "not used up",
        ]
        for row in delivery.DELIVERY_FAILURES
    ]
    return _meanings_and_table(delivery.DELIVERY_MEANINGS.items(), [head, *rows])


_DELIVERY_NAMES = {
    "Exception": "any other exception",
    "DeliveryOpen": "a call of `on_reply` was abandoned and is still running",
}


def _decisions_table(
    head: list[str], rows: list[list[str]], decisions: set[failure_table.Decision]
) -> str:
    meanings = failure_table.MEANINGS.items()
    chosen = [(decision, meaning) for decision, meaning in meanings if decision in decisions]
    return _meanings_and_table(chosen, [head, *rows])


def _meanings_and_table(meanings: Iterable[tuple[StrEnum, str]], rows: Sequence[list[str]]) -> str:
    head, *others = rows
    items = [_item(f"**{decision.value}**: {meaning}.") for decision, meaning in meanings]
    table = [_line(row) for row in [head, ["---"] * len(head), *others]]
    return "\n".join([*items, "", *table])


def verdicts_list() -> str:
    """Every verdict of `explain`: its meaning, and what to do."""
    ids = {name: name.upper() for name in ("thread", "message", "batch")}
    return "\n".join(
        _item(f"`{verdict.value}`: {meaning.title}. {meaning.advice.format(**ids)}")
        for verdict, meaning in explanation.MEANINGS.items()
    )


def explanation_example() -> str:
    """Lines that the command prints for a batch in a back-off."""
    now_ms = 1_796_047_331_000
    error = ErrorInfo(code="request_refused", message="503: the model is overloaded")
    row = AttemptRow(number=2, started_ms=now_ms - 20_000, ended_ms=now_ms - 9_000)
    thread = explaining.ThreadFacts(
        state=ThreadState.RETRYING,
        due_ms=now_ms + 12_000,
        batch_id="0b51dd7c9f63a2e48c1b7f20",
        progress=Progress(attempts=2, error=error, tries=(row,)),
    )
    facts = explaining.MessageFacts(
        now_ms=now_ms,
        is_message=True,
        is_in_batch=True,
        batch_id=thread.batch_id,
        queued_ms=now_ms - 40_000,
        thread=thread,
    )
    found = explaining.in_words(
        explaining.judge_facts(facts), thread_id="customer-42", message_id="5f3a09c1d2e4"
    )
    return "\n".join(["```text", *lines_of(found), "```"])


def failure_reasons_list() -> str:
    """Reasons of the failed list, and the failures that lead there."""
    return "\n".join(
        _item(f"`{reason}`: {words}{_leading_to(reason)}.")
        for reason, words in failure_table.REASONS.items()
    )


def _leading_to(reason: str) -> str:
    rows = [row for row in failure_table.FAILURES if row.reason == reason]
    names = [_failure_name(one) for row in rows for one in row.failures]
    shown = [name for name in dict.fromkeys(names) if name.startswith("`")]
    return f" ({', '.join(shown)})" if shown else ""


_ATTEMPTS = {
    failure_table.Attempts.COUNT: "used up",
    failure_table.Attempts.WAIT: "not used up",
    failure_table.Attempts.BY_KIND: "as its kind says",
    failure_table.Attempts.NOT_APPLICABLE: "-",
}


def _failure_name(failure: type[Any]) -> str:
    """The class of a public error; the words of what only the flow knows."""
    if failure is RunEnded:
        return "a failed, cancelled or expired run"
    if failure.__module__ == "assistant_queue.errors":
        return f"`{failure.__name__}`"
    words = str(failure.__doc__).splitlines()[0].rstrip(".")
    return words[0].lower() + words[1:]


def remedies_list() -> str:
    """Every remedy: its name, its protocols, and its effect on requests."""
    return "\n".join(
        _item(f"`{one.name}` ({', '.join(_protocols(one))}): {one.effect}.") for one in remedies.ALL
    )


def _protocols(remedy: remedies.Remedy) -> list[str]:
    chosen = {
        "Chat Completions": remedies.CHAT,
        "Responses": (*remedies.RESPONSES, remedies.TRUNCATION, remedies.COMPACTION),
    }
    return [name for name, known in chosen.items() if remedy in known] or ["Assistants"]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def environment_variable(name: str) -> str | None:
    """Environment variable of an option; None if only Python can make its value."""
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
    elif (
        get_origin(annotation) is Callable
        or getattr(get_origin(annotation), "__name__", "") == "Callable"
    ):
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
            name = plain.get(
                getattr(origin, "__name__", str(origin)), getattr(origin, "__name__", str(origin))
            )
            words.append(
                f"list of {getattr(get_origin(inner[0]) or inner[0], '__name__', inner[0])}"
                if name == "list" and inner
                else name
            )
    return " or ".join(words)


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return repr(value.model_dump()).replace("'", '"')
    if value is PydanticUndefined:
        return "required"
    return repr(value).replace("'", '"') if isinstance(value, str) else repr(value)


def thread_diagram() -> str:
    """State diagram of a thread, as Mermaid."""
    return f"```mermaid\n{diagram()}\n```"


def events_list() -> str:
    """Every event: its class, type, own fields, and meaning."""
    return "\n".join(map(_event, EVENTS))


def _event(kind: type[Any]) -> str:
    shared = {"id", "thread_id", "at", "type"}
    names = [one.name for one in dataclasses.fields(kind) if one.name not in shared]
    default = next(one.default for one in dataclasses.fields(kind) if one.name == "type")
    fields = ", ".join(f"`{name}`" for name in names)
    summary = str(kind.__doc__).split("\n\n", maxsplit=1)[0]
    return _item(f"`{kind.__name__}`, type `{default}`: {summary} Fields: {fields}.")


def servers_list() -> str:
    """Every server that the stand-in imitates: name, differences, and what the queue does."""
    words = {"responses": "Responses", "assistants": "Assistants", "chat_completions": "Chat"}
    items = []
    for name, one in NAMED.items():
        protocols = ", ".join(words[protocol] for protocol in one.personality.speaks)
        items.append(
            _item(f"`{name}`, {one.title} ({protocols}): {one.differs}. **Then:** {one.remedy}.")
        )
    return "\n".join(items)


def metrics_list() -> str:
    """Every metric for Prometheus: its name, type, labels and meaning."""
    return "\n".join(map(_metric, FAMILIES))


def _metric(family: Family) -> str:
    labels = ", ".join(f"`{name}`" for name in family.labels)
    known = "".join(
        f" `{label}`: {', '.join(f'`{one}`' for one in values)}."
        for label, values in family.known.items()
    )
    facts = f"{family.kind}, by {labels}" if labels else family.kind
    return _item(f"`{family.name}` ({facts}): {family.help}.{known}")


def alerts_list() -> str:
    """Every alert rule: the page for it, its severity, delay and summary."""
    text = (ROOT / "deploy" / "alerts.yaml").read_text(encoding="utf-8")
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    return "\n".join(map(_alert, rules))


def _alert(rule: dict[str, Any]) -> str:
    notes = rule["annotations"]
    address = notes["runbook_url"].removeprefix("docs/")
    facts = [rule["labels"]["severity"], *([f"after {rule['for']}"] if "for" in rule else [])]
    summary = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: found[1].upper(), notes["summary"])
    return _item(f"[`{rule['alert']}`]({address}) ({', '.join(facts)}): {summary}")


def troubles_table() -> str:
    """Every kind of trouble that the stand-in can have, and what the queue does about it."""
    head = ["`trouble(...)`", "the server", "what the queue does"]
    return "\n".join(
        _line(row)
        for row in [
            head,
            ["---"] * len(head),
            *([f"`{kind}`", *row] for kind, row in TROUBLES.items()),
        ]
    )


TROUBLES: dict[str, tuple[str, str]] = {
    "rate_limited": ("limits requests", "waits as long as asked; no attempt is used up"),
    "overloaded": ("is overloaded", "waits; no attempt is used up"),
    "loading": ("loads the model", "waits; no attempt is used up"),
    "gateway": ("is unreachable for its proxy", "waits; no attempt is used up"),
    "unknown_path": ("does not know the address", "waits, and logs what to check"),
    "server_error": ("failed", "retries; an attempt is used up"),
    "moderated": ("rejects the prompt", "fails the batch at once: `refused`"),
    "unknown_model": ("does not know the model", "fails the batch at once: `refused`"),
    "wrong_key": ("does not know the key", "fails the batch at once: `refused`"),
    "no_quota": ("requires payment", "fails the batch at once: `refused`"),
    "overflow": ("cannot read so much", "sends less of the conversation"),
}

PARTS: dict[str, Callable[[], str]] = {
    "options": options_list,
    "thread-diagram": thread_diagram,
    "request-outcomes": request_matrix.table,
    "chat-outcomes": request_matrix.chat_table,
    "listing-outcomes": request_matrix.listing_table,
    "events": events_list,
    "fates": fates_table,
    "failures": failures_table,
    "delivery-failures": delivery_failures_table,
    "failure-reasons": failure_reasons_list,
    "verdicts": verdicts_list,
    "explanation": explanation_example,
    "remedies": remedies_list,
    "servers": servers_list,
    "troubles": troubles_table,
    "metrics": metrics_list,
    "alerts": alerts_list,
}


def documents() -> list[Path]:
    """README, the documents and the examples' page."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "examples" / "README.md",
    ]


def refreshed(text: str) -> str:
    """Return the text with its generated parts up to date."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{PARTS[found['name']]()}\n\n{found[3]}", text)


def names_in(text: str) -> list[str]:
    """Names of the generated parts in a text."""
    return [found["name"] for found in _MARKED.finditer(text)]


def main() -> None:
    """Write the generated parts of every document."""
    for document in documents():
        text = document.read_text(encoding="utf-8")
        document.write_text(refreshed(text), encoding="utf-8")


if __name__ == "__main__":
    main()
