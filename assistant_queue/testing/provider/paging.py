"""Lists: limits, order and cursors, and the ways in which careless servers get them wrong."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.checks import choice, number
from assistant_queue.testing.provider.personality import Personality

# Source: the provider's published API description: 1 to 100, 20 when left out.
_LIMIT_MOST = 100
_LIMIT_DEFAULT = 20


def page(
    objects: Sequence[dict[str, Any]], query: Mapping[str, str], personality: Personality
) -> dict[str, Any]:
    """One page of a list.

    Args:
        objects: All of them, oldest first.
        query: `limit`, `order`, `after`, `before` as they came.
        personality: Which of these this server keeps.

    Raises:
        ApiProblem: `limit` or `order` is out of range, or a cursor is unknown.
    """
    limit = whole(query, "limit", _LIMIT_DEFAULT)
    number(1, _LIMIT_MOST, whole=True)(limit, "limit")
    order = query.get("order", "desc")
    choice("asc", "desc")(order, "order")
    ordered = _ordered(objects, order, personality)
    if not personality.ignores_after:
        ordered = _between(ordered, query)
    most = len(ordered) if personality.ignores_limit else min(limit, personality.page_cap or limit)
    # `before` alone asks for the page that ends there, not for the beginning of the list.
    is_backwards = "before" in query and "after" not in query
    shown = ordered[max(0, len(ordered) - most) :] if is_backwards else ordered[:most]
    answer = {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }
    by_flag = {"correct": len(ordered) > len(shown), "always": True, "never": False}
    return (
        answer
        if personality.has_more == "missing"
        else {**answer, "has_more": by_flag[personality.has_more]}
    )


def _ordered(
    objects: Sequence[dict[str, Any]], order: str, personality: Personality
) -> list[dict[str, Any]]:
    """The list as this server sorts it."""
    how = personality.list_order
    if personality.unsorted_lists or how == "shuffled":
        return sorted(objects, key=_arbitrary)
    if how == "reshuffled":
        return random.sample(list(objects), len(objects))
    ordered = sorted(objects, key=lambda held: str(held["id"])) if how == "by_id" else list(objects)
    is_newest_first = (
        how == "newest" or personality.ignores_order or (order == "desc" and how != "oldest")
    )
    return ordered[::-1] if is_newest_first else ordered


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
    start = 0
    end = len(ordered)
    if "after" in query:
        start = _position(ids, query["after"], "after") + 1
    if "before" in query:
        end = _position(ids, query["before"], "before")
    return ordered[start:end]


def _position(ids: list[str], cursor: str, param: str) -> int:
    if cursor not in ids:
        raise ApiProblem(
            f"Invalid '{param}': no object with id '{cursor}' in this list.", param=param
        )
    return ids.index(cursor)


def _arbitrary(held: dict[str, Any]) -> str:
    return hashlib.sha256(held["id"].encode()).hexdigest()
