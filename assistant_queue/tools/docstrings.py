"""Parser of Google-style docstrings: a function's description and its parameters."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass, field

_SECTION = re.compile(
    r"(Args|Arguments|Parameters|Keyword Args|Returns?|Yields?|Raises|Examples?|Notes?|Warnings?|"
    r"Todo|See Also|References|Attributes):\s*"
)
_PARAMETERS = frozenset({"Args", "Arguments", "Parameters", "Keyword Args"})
_ENTRY = re.compile(r"(?P<name>\w+)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.*)")


@dataclass(frozen=True, slots=True)
class Documented:
    """A docstring in parts.

    Attributes:
        description: The text before the first section, None without one.
        parameters: The entries of its Args section, by parameter.
    """

    description: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)


def read_docstring(text: str | None) -> Documented:
    """Return the parts of a docstring that are sent to a model."""
    description: list[str] = []
    entries: list[str] = []
    section = ""
    for line in inspect.cleandoc(text or "").splitlines():
        heading = _SECTION.fullmatch(line)
        if heading is not None:
            section = heading[1]
        elif not section:
            description.append(line)
        elif section in _PARAMETERS:
            entries.append(line)
    return Documented("\n".join(description).strip() or None, _read_entries(entries))


def _read_entries(lines: list[str]) -> dict[str, str]:
    """Return entries `name: text` or `name (type): text`; deeper lines continue an entry."""
    words: dict[str, list[str]] = {}
    name = ""
    for line in textwrap.dedent("\n".join(lines)).splitlines():
        found = _ENTRY.fullmatch(line)
        if found is not None:
            name = found["name"]
            words[name] = [found["text"].strip()]
        elif name:
            words[name].append(line.strip())
    texts = {name: " ".join(part for part in parts if part) for name, parts in words.items()}
    return {name: text for name, text in texts.items() if text}
