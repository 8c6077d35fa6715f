"""Lists: limits, order and cursors, and how careless servers get them wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.testing.provider.checks import choice, number
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.problems import ApiProblem

# Source: the provider's published API description: 1 to 100, 20 when left out.
_LIMIT_MOST = 100
_LIMIT_DEFAULT = 20


def page(objects: Sequence[dict[str, Any]], query: Mapping[str, str], personality: Personality) -> dict[str, Any]:
    """One page of a list.

    Args:
        objects: All of them, oldest first.
        query: `limit`, `order`, `after`, `before` as they came.
        personality: Whether order and sorting are kept.

    Raises:
        ApiProblem: `limit` or `order` is out of range, or a cursor is unknown.
    """
    limit = whole(query, "limit", _LIMIT_DEFAULT)
    number(1, _LIMIT_MOST, whole=True)(limit, "limit")
    order = query.get("order", "desc")
    choice("asc", "desc")(order, "order")
    ordered = list(objects)
    if order == "desc" or personality.ignores_order:
        ordered.reverse()
    if personality.unsorted_lists:
        ordered.sort(key=_arbitrary)
    ordered = _between(ordered, query)
    # `before` alone asks for the page that ends there, not for the beginning of the list.
    is_backwards = "before" in query and "after" not in query
    shown = ordered[-limit:] if is_backwards else ordered[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(ordered) > len(shown),
    }


def whole(query: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of a query.

    Raises:
        ApiProblem: It is none.
    """
    try:
        return int(query.get(name, default))
    except ValueError:
        message = f"Invalid type for '{name}': expected an integer, but got a string instead."
        raise ApiProblem(message, code="invalid_type", param=name) from None


def _between(ordered: list[dict[str, Any]], query: Mapping[str, str]) -> list[dict[str, Any]]:
    ids = [held["id"] for held in ordered]
    start, end = 0, len(ordered)
    if "after" in query:
        start = _position(ids, query["after"], "after") + 1
    if "before" in query:
        end = _position(ids, query["before"], "before")
    return ordered[start:end]


def _position(ids: list[str], cursor: str, param: str) -> int:
    if cursor not in ids:
        raise ApiProblem(f"Invalid '{param}': no object with id '{cursor}' in this list.", param=param)
    return ids.index(cursor)


def _arbitrary(held: dict[str, Any]) -> str:
    return hashlib.sha256(held["id"].encode()).hexdigest()
