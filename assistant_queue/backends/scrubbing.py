"""Keep secrets out of what a provider says: its words are shown in failed lists, statuses and logs."""

from __future__ import annotations

import re

MAX_WORDS = 500
"""Characters of a provider's words that are shown. Chosen: longer than every error message seen, short enough for a log line."""

_MIN_SECRET = 6
"""Characters of a key that is worth hiding: a local server's placeholder (`x`, `none`) would blot out parts of words. Chosen."""

# Source: the forms of keys of the usual providers, and of credentials in headers and addresses.
_SECRETS = re.compile(
    r"(?P<label>(?i:\bBearer\s+|\b(?:api[-_ ]?key|token|secret|password)\b['\"]?(?:\s*provided)?\s*[=:]\s*['\"]?)|://(?=[^\s/@]*:[^\s/@]+@))?"
    r"(?:(?<![\w-])(?:sk|pk|sess|rk|gsk|hf|xai|pplx|nvapi|r8|key)[-_][A-Za-z0-9*._-]{6,}"
    r"|\bAIza[\w-]{10,}"
    r"|\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"
    r"|(?(label)[^\s'\",;}@]{4,}|(?!)))"
)

_known: set[str] = set()


def remember(secret: object) -> None:
    """Hide this secret from now on wherever a provider repeats it: the key of a client of this process."""
    if isinstance(secret, str) and len(secret) >= _MIN_SECRET:
        _known.add(secret)


def _hidden(found: re.Match[str]) -> str:
    return f"{found['label'] or ''}[key]"


def scrubbed(words: str, *secrets: str) -> str:
    """The words on one line, without the known secrets, `secrets` and whatever looks like one, at most `MAX_WORDS` characters."""
    for secret in (*secrets, *_known):
        if len(secret) >= _MIN_SECRET:
            words = words.replace(secret, "[key]")
    words = " ".join(_SECRETS.sub(_hidden, words[: 8 * MAX_WORDS]).split())
    return words if len(words) <= MAX_WORDS else f"{words[: MAX_WORDS - 3]}..."
