"""One table: what was measured, beside what, their ratio, and the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        group: The heading it stands under.
        what: What was done.
        here: The figure, with its unit.
        beside: The baseline of the same run, with what it is.
        ratio: The figure by its baseline: the median over the rounds where it was timed.
        spread: The middle half of the rounds.
        target: What it should be, None where a row is there for comparison.
        met: Whether it is.
    """

    group: str
    what: str
    here: str
    beside: str = ""
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    target: str = ""
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        spread = "" if self.spread is None else f"{self.spread[0]:.2f}-{self.spread[1]:.2f}"
        met = "" if self.met is None else "yes" if self.met else "NO"
        return self.what, self.here, self.beside, ratio, spread, self.target, met


HEAD = ("what", "here", "beside", "ratio", "spread", "target", "met")


def render(rows: Sequence[Row]) -> str:
    """All rows as one Markdown table, aligned for a terminal."""
    lines: list[tuple[str, ...]] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append((f"**{group}**", *[""] * (len(HEAD) - 1)))
        lines.append(row.cells())
    widths = [max(len(line[i]) for line in [HEAD, *lines]) for i in range(len(HEAD))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in [HEAD, rule, *lines]
    )


def compact(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table without padding, as the documents have them."""
    rule = ["---"] * len(head)
    return "\n".join(
        f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in [head, rule, *lines]
    )
