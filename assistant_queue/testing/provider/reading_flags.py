"""Describe how a server lists objects and treats foreground responses without a reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ListFlags:
    """Treatment of the parameters of a list; items, messages and runs alike.

    Attributes:
        ignores_order: Lists come newest first whatever `order` says.
        unsorted_lists: Lists come in an arbitrary (yet repeatable) order.
        list_order: `asked`: as `order` says; `newest`, `oldest`: always so; `by_id`: sorted by
            random ids, up or down as `order` says; `shuffled`: one arbitrary order, whatever
            `order` says; `reshuffled`: another one for every request.
        ignores_after: Every page begins at the beginning of the list.
        ignores_limit: Everything comes in one page, whatever `limit` and `page_cap` say.
        page_cap: No page is longer than this, whatever `limit` says; None for no cap.
        has_more: `has_more` of a page: `correct`, `missing`, `always` or
            `never`.
    """

    ignores_order: bool = False
    unsorted_lists: bool = False
    list_order: Literal["asked", "newest", "oldest", "by_id", "shuffled", "reshuffled"] = "asked"
    ignores_after: bool = False
    ignores_limit: bool = False
    page_cap: int | None = None
    has_more: Literal["correct", "missing", "always", "never"] = "correct"


@dataclass(frozen=True)
class ForegroundFlags:
    """Treatment of a response in the foreground.

    Attributes:
        foreground: `continues`: it is finished whether or not its client reads; `stops`: work on it
            ends when its client has gone, and it is shown as `in_progress` for ever.
        foreground_cancel: Status that refuses to cancel one: 400, 404 or 409; `accepted`: it is
            cancelled as one in the background is.
    """

    foreground: Literal["continues", "stops"] = "continues"
    foreground_cancel: Literal[400, 404, 409, "accepted"] = 400
