"""The code in the documentation: where it stands, and what it needs to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from assistant_queue import AssistantMessageQueue

_BLOCK = re.compile(
    r"(?:^<!-- needs:(?P<needs>[a-z ]*)-->\n)?^```(?P<language>[a-z]*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    document: str
    line: int
    language: str
    code: str
    needs: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, if its first line says so: `# mybot.py`."""
        found = re.match(r"# (\w+\.py)\n", self.code)
        return found[1] if found else None


def blocks_of(document: Path, root: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            document=str(document.relative_to(root)),
            line=text.count("\n", 0, found.start("code")) + 1,
            language=found["language"],
            code=found["code"],
            needs=tuple((found["needs"] or "").split()),
        )
        for found in _BLOCK.finditer(text)
    ]


def close_all(names: Mapping[str, Any]) -> None:
    """Close the queues that a block has made, and the global exporter of spans."""
    for value in names.values():
        if isinstance(value, AssistantMessageQueue):
            value.close()
        elif isinstance(value, TracerProvider):
            value.shutdown()  # else it writes later tests' spans to this test's output
