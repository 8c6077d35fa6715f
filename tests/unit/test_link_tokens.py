"""Tokens of links that approve and deny: nothing in them can be changed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from assistant_queue.core.link_tokens import MAX_TOKEN, LinkClaims, read, sign

SECRET = "first-secret-of-the-queue"
OTHER = "other-secret-of-the-queue"
CLAIMS = LinkClaims(
    call_id="call_5f3a09c1d2e4a7b8c9d0", verdict="approve", until_ms=1_700_000_000_123, by="Eve Ä"
)


def packed(fields: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()


def test_what_was_signed_is_read_by_any_of_the_secrets() -> None:
    for claims in (CLAIMS, replace(CLAIMS, verdict="deny", by=None)):
        token = sign(claims, "assistant", SECRET)
        for secrets in ([SECRET], [OTHER, SECRET], [SECRET, OTHER]):
            assert read(token, "assistant", secrets) == claims
        for secrets in ([OTHER], [], [SECRET[:-1]], [SECRET + " "]):
            assert read(token, "assistant", secrets) is None
        assert read(token, "staging", [SECRET]) is None, "of another queue"
        assert SECRET not in token


def test_a_token_with_any_other_character_is_read_as_none() -> None:
    token = sign(CLAIMS, "assistant", SECRET)
    form, body, signature = token.split(".")
    wrong = {token[:n] + other + token[n + 1 :] for n in range(len(token)) for other in "A2.-é"}
    wrong -= {token}
    wrong |= {token[:n] for n in range(len(token))} | {f"{token}=", f" {token}", f"{token}.{body}"}
    for fields in (
        ["call_other", "approve", CLAIMS.until_ms, CLAIMS.by],
        [CLAIMS.call_id, "deny", CLAIMS.until_ms, CLAIMS.by],
        [CLAIMS.call_id, "approve", CLAIMS.until_ms + 1, CLAIMS.by],
        [CLAIMS.call_id, "approve", CLAIMS.until_ms, "mallory"],
        [CLAIMS.call_id, "approve", CLAIMS.until_ms, None],
    ):
        wrong.add(f"{form}.{packed(fields)}.{signature}")
    assert [one for one in wrong if read(one, "assistant", [SECRET]) is not None] == []
    for odd in (
        "",
        ".",
        "..",
        "1..",
        "1.e30.",
        "1.\ud800.x",
        "1.a.\ud800",
        "\0",
        "1." + "x" * 9999,
    ):
        assert read(odd, "assistant", [SECRET]) is None


def test_the_longest_token_fits() -> None:
    longest = replace(CLAIMS, call_id="\U0001f600" * 512, by="\U0001f600" * 128)
    token = sign(longest, "assistant", SECRET)
    assert len(token) <= MAX_TOKEN
    assert read(token, "assistant", [SECRET]) == longest
