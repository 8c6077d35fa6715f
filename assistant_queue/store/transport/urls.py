"""Parsing of Redis URLs, with Sentinels, and the errors of invalid ones."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

CONNECT_TIMEOUT_S = 2.0
"""Seconds until connecting to an unreachable Redis fails. Chosen: with one retry a call fails
within 5 s instead of hanging."""
_OWN_WORDS = ("a Sentinel URL", "Redis URL must", "Invalid value for")
"""Beginnings of URL errors that do not quote the URL: this package's and redis-py's."""
_SENTINEL_SCHEMES = {"redis+sentinel": False, "rediss+sentinel": True}


class SentinelUrl:
    """A parsed URL of Sentinels.

    `redis+sentinel://[user:password@]host:port,host:port/service[/db][?sentinel_password=...]`
    """

    def __init__(self, url: str) -> None:
        """Parse a URL; raises ValueError if it is invalid."""
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        self.hosts = [_host_port(host) for host in hosts.split(",")]
        service, _, db = parts.path.strip("/").partition("/")
        if not service:
            msg = "a Sentinel URL needs a service name: redis+sentinel://host:26379/mymaster/0"
            raise ValueError(msg)
        self.service = service
        user, _, password = (
            credentials.rpartition(":") if ":" in credentials else ("", "", credentials)
        )
        self.kwargs: dict[str, Any] = {"db": int(db or 0), "ssl": _SENTINEL_SCHEMES[parts.scheme]}
        if user:
            self.kwargs["username"] = unquote(user)
        if password:
            self.kwargs["password"] = unquote(password)
        query = parse_qs(parts.query)
        self.sentinel_kwargs: dict[str, Any] = {"socket_timeout": CONNECT_TIMEOUT_S}
        if "sentinel_password" in query:
            self.sentinel_kwargs["password"] = query["sentinel_password"][0]


def _host_port(host: str) -> tuple[str, int]:
    name, _, port = host.rpartition(":")
    return (name, int(port)) if name else (host, 26379)


def is_sentinel(url: str) -> bool:
    """Return whether a URL names Sentinels."""
    return urlsplit(url).scheme in _SENTINEL_SCHEMES


def url_error(error: ValueError) -> str:
    """Return the message for an invalid URL, without its password."""
    # The standard library quotes the part that it cannot read: if a password is not encoded, the
    # password.
    quotes = not str(error).startswith(_OWN_WORDS)
    reason = (
        "percent-encode special characters of the user name and password, and use a number as the "
        "port"
        if quotes
        else error
    )
    return (
        f"Invalid redis_url: {reason}; expected redis://, rediss://, unix:// or "
        "redis+sentinel://host:port,.../service/db"
    )
