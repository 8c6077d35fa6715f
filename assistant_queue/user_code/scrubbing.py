"""Remove secrets from the words of providers and of exceptions in user code.

Such words are shown in failed lists, statuses and logs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MAX_WORDS = 500
"""Characters of such words that are shown. Chosen: longer than every error message seen, short
enough for a log line."""

_MIN_SECRET = 6
"""Characters of a key from which it is hidden. Chosen: a local server's placeholder (`x`, `none`)
is shorter, and would blot out parts of words."""

# Source: the forms of keys of the usual providers and chat platforms, and of credentials in headers
# and addresses.
_NAMES = (
    r"(?:api|access|private|client|bot)[-_ ]?(?:key|token|secret)"
    r"|token|secret|password|passwd|pwd|signature"
)
_LABELS = (
    r"(?i:authorization['\"]?\s*[:=]\s*['\"]?(?:[a-z]+\s+)?)"  # a header, whatever its scheme
    r"|(?i:\b(?:Bearer|Basic)\s+)"
    rf"|(?i:(?<![a-z0-9])(?:{_NAMES})\b['\"]?(?:\s*provided)?\s*[=:]\s*['\"]?)"
    r"|(?i:[?&;](?:[\w.~-]*[-_.])?(?:key|sig|signature|auth|code|pass)=)"  # a query parameter
)
_SECRETS = re.compile(
    rf"(?P<label>{_LABELS})?"
    r"(?:(?<![\w-])(?:sk|pk|sess|rk|gsk|hf|xai|pplx|nvapi|r8|key|xox[a-z]|xapp|gh[a-z]"
    r"|github_pat|glpat|whsec)[-_][A-Za-z0-9*._-]{6,}"
    r"|\bAIza[\w-]{10,}"
    r"|\bAKIA[A-Z0-9]{12,}"
    r"|\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"
    # a Telegram bot's, in addresses with `bot` in front
    r"|(?<![0-9A-Za-z])(?:bot)?\d{5,12}:[\w-]{20,}"
    r"|(?(label)[^\s'\",;}@&#]{4,}|(?!)))"
)

_USERINFO = re.compile(r"://[^\s/?#'\"]+@")
"""User and password of an address, whatever is in them."""

_known: set[str] = set()


def remember(secret: object) -> None:
    """Hide this secret from now on in all words: the key of a client of this process."""
    if isinstance(secret, str) and len(secret) >= _MIN_SECRET:
        _known.add(secret)


def _found(words: str, secrets: Iterable[str]) -> Iterator[tuple[int, int]]:
    labels: set[int] = set()
    for found in _SECRETS.finditer(words):
        start = max(found.end("label"), found.start())
        labels.update(range(found.start(), start))
        yield start, found.end()
    for found in _USERINFO.finditer(words):
        yield found.start() + len("://"), found.end() - len("@")
    for secret in secrets:
        start = words.find(secret)
        while start >= 0:
            end = start + len(secret)
            if not labels.issuperset(range(start, end)):  # `secret` can be the name of another one
                yield start, end
            start = words.find(secret, start + 1)


def without_secrets(words: str, *secrets: str) -> str:
    """Return the words without the known secrets, `secrets` and whatever looks like one."""
    known = {one for one in (*secrets, *_known) if len(one) >= _MIN_SECRET}
    kept: list[str] = []
    shown = 0
    for start, end in sorted(_found(words, known)):
        if start > shown or not shown:
            kept += words[shown:start], "[key]"
        shown = max(shown, end)
    return "".join((*kept, words[shown:]))


def scrubbed(words: str, *secrets: str) -> str:
    """Return the words on one line, `without_secrets`, at most `MAX_WORDS` characters."""
    words = " ".join(without_secrets(words[: 8 * MAX_WORDS], *secrets).split())
    return words if len(words) <= MAX_WORDS else f"{words[: MAX_WORDS - 3]}..."
