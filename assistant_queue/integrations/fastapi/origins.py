"""Where a request comes from: the client's address behind trusted proxies, and the page that sent it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from assistant_queue.integrations.fastapi.settings import Settings

NETWORK_BITS = 64
"""Source: RFC 6177: the least that one customer is given."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Origins:
    """Answers both questions for one service."""

    def __init__(self, settings: Settings) -> None:
        """Reads the networks and origins once."""
        self._networks, self._origins = settings.networks, settings.origins
        self._hosts = None if settings.allowed_hosts is None else {host.lower() for host in settings.allowed_hosts}

    def is_trusted(self, address: str) -> bool:
        """The address is that of a proxy whose headers are believed."""
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)

    def client_address(self, request: HTTPConnection) -> str:
        """The peer, or behind trusted proxies whom the outermost of them has seen.

        Read from the right: what stands further left was written by the client and may be anything.
        """
        peer = request.client.host if request.client else "unknown"
        if not self._networks or not self.is_trusted(peer):
            return peer
        hops = [hop.strip() for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
        for hop in reversed(hops):
            found = _address(hop)
            if found is None:
                return peer  # a proxy of ours writes addresses; what does not look like one was not written by it
            peer = str(found)
            if not self.is_trusted(peer):
                return peer
        return peer

    def counted_address(self, request: HTTPConnection) -> str:
        """The client's address as limits count it: of IPv6 the network, in which one client has as many addresses as it likes."""
        address = self.client_address(request)
        found = _address(address)
        return str(ip_network((found, NETWORK_BITS), strict=False)) if isinstance(found, IPv6Address) else address

    def own_host(self, request: HTTPConnection) -> str:
        """The host and port by which the client knows this service, in lower case."""
        host = request.headers.get("host", "")
        if self._networks and request.client is not None and self.is_trusted(request.client.host):
            host = request.headers.get("x-forwarded-host", host)
        return host.lower()

    def is_known_host(self, request: HTTPConnection) -> bool:
        """The service may be called by this name."""
        if self._hosts is None:
            return True
        return (urlsplit(f"//{self.own_host(request)}").hostname or "") in self._hosts

    def is_own_page(self, request: HTTPConnection) -> bool:
        """What may change something, or opens a socket, was sent by a page of ours or of an allowed origin, or by no page at all.

        Browsers name the origin with each of these. A request with cookies and without an origin is judged by what else browsers say.
        """
        origin = request.headers.get("origin")
        if origin is not None:
            return self._is_ours(origin, request)
        if "cookie" not in request.headers:
            return True
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site in {"same-origin", "none"}
        referer = request.headers.get("referer")
        return referer is not None and self._is_ours(referer, request)

    def _is_ours(self, address: str, request: HTTPConnection) -> bool:
        parts = urlsplit(address.lower())
        if parts.scheme not in {"http", "https"}:
            return False
        return parts.netloc == self.own_host(request) or f"{parts.scheme}://{parts.netloc}" in self._origins


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, as proxies write it: some with the port behind it, some with IPv4 within IPv6."""
    for plain in (text, text.rpartition(":")[0].strip("[]")):
        try:
            found = ip_address(plain)
        except ValueError:
            continue
        return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
    return None
