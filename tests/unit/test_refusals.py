"""Redis' refusals, in the words of each version: which pass, and which close the connection."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from assistant_queue.config import NO_CLUSTER
from assistant_queue.errors import ConfigurationError, NotPermitted, StoreUnavailable
from assistant_queue.store.transport.refusals import (
    PASSING,
    hang_up_idle,
    leads_astray,
    translate,
    word_of,
)

SAID = {
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "UNKILLABLE": "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "UNBLOCKED": "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
}


def plain(line: str) -> Any:
    return BaseParser.parse_error(line)


def in_script_7(line: str) -> Any:
    return BaseParser.parse_error(f"{line} script: {'ab' * 20}, on @user_script:12.")


def in_script_6(line: str) -> Any:
    return BaseParser.parse_error(
        f"ERR Error running script (call to f_{'ab' * 20}): @user_script:12: @user_script: 12: -{line} "
    )


def in_pipeline(line: str) -> Any:
    error = in_script_7(line)
    error.args = (
        f"Command # 1 (EVALSHA abc 3 p:thread:t\nhello OOM) of pipeline caused error: {error.args[0]}",
    )
    return error


@pytest.mark.parametrize(
    "form", [plain, in_script_7, in_script_6, in_pipeline], ids=lambda form: form.__name__
)
@pytest.mark.parametrize("word", PASSING)
def test_a_refusal_that_passes_is_a_redis_that_is_away(word: str, form: Any) -> None:
    error = form(SAID[word])
    assert word_of(error) == word
    ours = translate(error, has_served=True)
    assert type(ours) is StoreUnavailable
    assert ours.refusal == word
    assert ours.retryable
    said = SAID[word].removeprefix(f"{word} ").rstrip(".")
    assert str(ours) == f"Redis refuses for now, {word} ({said}): {PASSING[word]}"


@pytest.mark.parametrize("word", PASSING)
def test_the_connection_to_a_server_that_is_no_primary_is_closed(word: str) -> None:
    closes = word in {"READONLY", "MASTERDOWN", "UNBLOCKED"}
    assert [
        leads_astray(form(SAID[word])) for form in (plain, in_script_7, in_script_6, in_pipeline)
    ] == [closes] * 4


@pytest.mark.parametrize("word", ["CLUSTERDOWN", "TRYAGAIN"])
def test_a_redis_that_has_never_run_a_script_and_speaks_of_its_cluster_is_one(word: str) -> None:
    assert str(translate(plain(SAID[word]))) == NO_CLUSTER


@pytest.mark.parametrize(
    "line", ["MOVED 1 127.0.0.1:7000", "ASK 1 127.0.0.1:7000", "CROSSSLOT Keys in request"]
)
def test_errors_of_a_cluster_are_never_waited_for(line: str) -> None:
    assert type(translate(plain(line), has_served=True)) is ConfigurationError


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("NOAUTH Authentication required.", "redis://user:password@host"),
        (
            "NOAUTH HELLO must be called with the client already authenticated, otherwise ...",
            "redis://user:password@host",
        ),
        ("WRONGPASS invalid username-password pair or user is disabled.", "check both"),
        ("NOPERM User bot has no permissions to run the 'evalsha' command", "check its ACL"),
        (
            f"ERR ACL failure in script: User bot has no permissions script: {'ab' * 20}, on @user_script:1.",
            "check its ACL",
        ),
        (
            f"ERR Error running script (call to f_{'ab' * 20}): @user_script:1: The user executing the script can't run this command",
            "check its ACL",
        ),
    ],
)
def test_the_error_of_a_refused_user_names_what_to_check(line: str, says: str) -> None:
    ours = translate(plain(line))
    assert type(ours) is NotPermitted
    assert says in str(ours)


class OldPool:
    """redis-py's blocking pool before version 7: it closes all connections or none."""

    def __init__(self) -> None:
        self.pool = self
        self.closed = 0
        self.queue = [None, self]

    def disconnect(self) -> None:
        """Of the pool, and of its one connection."""
        self.closed += 1


def test_an_old_pool_closes_what_it_keeps() -> None:
    pool = OldPool()
    client: Any = type("Client", (), {"connection_pool": pool})
    hang_up_idle(client)
    assert pool.closed == 1


def test_errors_without_a_word_have_none() -> None:
    errors = (
        exceptions.ConnectionError("Error 111 connecting"),
        OSError("no"),
        exceptions.ResponseError("value is not an integer"),
    )
    assert [word_of(error) for error in errors] == ["", "", ""]
