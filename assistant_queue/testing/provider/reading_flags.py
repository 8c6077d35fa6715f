"""How a careless server lists what it holds, and what becomes of a foreground response that nothing reads: flags of `Personality`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ListFlags:
    """What a server does with the parameters of a list, items and messages and runs alike.

    Attributes:
        ignores_order: Lists come newest first whatever `order` says.
        unsorted_lists: Lists come in an arbitrary (yet repeatable) order.
        list_order: `asked`: as `order` says; `newest`, `oldest`: always so; `by_id`: sorted by random ids, up or down as `order` says;
            `shuffled`: one arbitrary order, whatever `order` says; `reshuffled`: another one for every request.
        ignores_after: Every page begins at the beginning of the list.
        ignores_limit: Everything comes in one page, whatever `limit` and `page_cap` say.
        page_cap: No page is longer than this, whatever `limit` says; None for no cap.
        has_more: What a page says about further ones: `told` truthfully, `missing`, `always` or `never`.
    """

    ignores_order: bool = False
    unsorted_lists: bool = False
    list_order: Literal["asked", "newest", "oldest", "by_id", "shuffled", "reshuffled"] = "asked"
    ignores_after: bool = False
    ignores_limit: bool = False
    page_cap: int | None = None
    has_more: Literal["told", "missing", "always", "never"] = "told"


@dataclass(frozen=True)
class ForegroundFlags:
    """What a server does with a response in the foreground.

    Attributes:
        foreground: `goes_on`: it is finished whether or not its client listens; `stops`: work on it ends when its client has gone, and it
            is shown as `in_progress` for ever.
        foreground_cancel: What cancelling one is refused with: 400, 404 or 409; `accepted`: it is cancelled as one in the background is.
    """

    foreground: Literal["goes_on", "stops"] = "goes_on"
    foreground_cancel: Literal[400, 404, 409, "accepted"] = 400
