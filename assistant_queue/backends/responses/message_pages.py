"""Items of a conversation that were read for one page of messages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from assistant_queue.backends.openai.content import Json
from assistant_queue.backends.openai.items import is_asked, is_kind
from assistant_queue.core.history_notes import Item, Kind


@dataclass(slots=True, kw_only=True)
class PageRead:
    """Items that were read for a page of messages, in the page's order.

    Attributes:
        is_newest_first: The order.
        starts_at_end: No item comes before them in that order.
        ends: None comes after them.
        items: All that were read.
        found: The messages of the page.
    """

    is_newest_first: bool
    starts_at_end: bool
    ends: bool = False
    items: list[Json] = field(default_factory=list)
    found: list[Json] = field(default_factory=list)

    def oldest_first(self) -> list[Json]:
        """Return all items, the oldest first."""
        return list(reversed(self.items)) if self.is_newest_first else list(self.items)

    def has_beginning(self) -> bool:
        """Whether the conversation's first item is among them."""
        return self.ends if self.is_newest_first else self.starts_at_end

    def has_end(self) -> bool:
        """Whether the conversation's last item is among them."""
        return self.starts_at_end if self.is_newest_first else self.ends

    def lacks_older(self) -> bool:
        """Whether a question of the page may have neighbours before the items."""
        return not self.has_beginning() and self._is_cut(self.oldest_first())

    def lacks_newer(self) -> bool:
        """Whether the answer to a question of the page comes after the items.

        Or what proves their order: another answer.
        """
        if self.has_end():
            return False
        answers = [one for one in self.items if is_kind(one, "message") and not is_asked(one)]
        is_proven = len(answers) > 1 or not any(map(is_asked, self.found))
        return not is_proven or self._is_cut(list(reversed(self.oldest_first())))

    def _is_cut(self, items: Sequence[Json]) -> bool:
        """Return whether a question of the page comes before the first answer among the items."""
        for item in items:
            if is_kind(item, "message") and not is_asked(item):
                return False
            if is_asked(item) and any(item is one for one in self.found):
                return True
        return False


def seen(item: Json) -> Item:
    """Convert an item for the notes of the history."""
    kind: Kind = "other"
    if is_kind(item, "message"):
        kind = "user" if is_asked(item) else "assistant"
    return Item(str(item.get("id") or ""), kind)
