"""The page of a link that approves or denies a call: plain HTML, without scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from html import escape
from typing import Any

from fastapi import Response

from assistant_queue.approvals import Approval
from assistant_queue.client.approval_calls import MAX_REASON

REASON = "reason"
"""Name of the field for the reason of a denial."""
_STYLE = """
:root { color-scheme: light dark; --paper: #f6f5f2; --card: #fff; --ink: #1f2328; --soft: #57606a;
  --line: #d8d6d0; --yes: #1a6b3c; --no: #a4262c; --on: #fff; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --card: #1f2226; --ink: #ececec;
  --soft: #a5adb5; --line: #3a3f45; --yes: #7fd6a0; --no: #ff9c94; --on: #14161a; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { width: 100%; max-width: 32rem; padding: 1.75rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 .75rem; font-size: 1.35rem; line-height: 1.3; white-space: pre-wrap;
  overflow-wrap: anywhere; }
p { margin: 0 0 1rem; overflow-wrap: anywhere; white-space: pre-wrap; }
p:last-child { margin-bottom: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0 0 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
form { margin: 1.25rem 0; }
label { display: block; margin-bottom: 1rem; }
textarea { display: block; width: 100%; margin-top: .25rem; padding: .5rem .75rem; font: inherit;
  color: var(--ink); background: var(--paper); border: 1px solid var(--soft);
  border-radius: .5rem; resize: vertical; }
.soft { color: var(--soft); font-size: .9rem; }
button { min-height: 2.75rem; padding: .5rem 1.5rem; border: 0; border-radius: .5rem; font: inherit;
  font-weight: 600; color: var(--on); background: var(--yes); cursor: pointer; }
button.deny { background: var(--no); }
button:focus-visible, textarea:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px; }
@media (forced-colors: active) { button { border: 1px solid; } }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SETTLED = {
    "approved": "Approved",
    "denied": "Denied",
    "answered": "Answered",
    "expired": "Expired",
    "withdrawn": "Withdrawn",
}


def asking_page(asked: Approval, verdict: str, by: str | None, until_ms: int) -> Response:
    """Return the page with the question and the button; nothing is done before it is pressed.

    That of a denial has a field for the reason.
    """
    field = ""
    if verdict == "deny":
        field = (
            "<label>Reason, which the assistant reads (optional)"
            f'<textarea name="{REASON}" rows="3" maxlength="{MAX_REASON}"></textarea></label>'
        )
    # No address in the form: it goes to that of the page, whatever proxies are before it.
    form = (
        f'<form method="post">{field}<button class="{escape(verdict)}">{verdict.capitalize()}</button>'
        "</form>"
    )
    to_whom = f"As {escape(by)}. " if by else ""
    return _page(
        f"{verdict.capitalize()}?",
        _question(asked),
        form,
        f'<p class="soft">{to_whom}Valid until {_time(until_ms)}, for one answer.</p>',
    )


def settled_page(
    asked: Approval | None,
    verdict: str | None,
    by: str | None,
    settled_ms: int,
    *,
    reason: str | None = None,
    status: int = 200,
) -> Response:
    """Return the page that says how a call was settled; with the reason, of a person's own denial."""
    word = _SETTLED.get(verdict or "", "Settled")
    by_whom = f" by {escape(by)}" if by else ""
    when = f" on {_time(settled_ms)}" if settled_ms else ""
    parts = [f"<h1>{word}{by_whom}</h1>"]
    if asked is not None:
        parts.append(f"<p>{escape(words_of(asked))}</p>")
    if reason is not None:
        parts.append(f"<p>Reason: {escape(reason)}</p>")
    if when:
        parts.append(f'<p class="soft">{word}{when}. There is nothing more to do.</p>')
    return _page(word, *parts, status=status)


def problem_page(title: str, detail: str, status: int, headers: dict[str, str]) -> Response:
    """Return the page of a link that does nothing, or of a refusal."""
    response = _page(title, f"<h1>{escape(title)}</h1>", f"<p>{escape(detail)}</p>", status=status)
    response.headers.update(headers)
    return response


def words_of(asked: Approval) -> str:
    """Return the question of a call."""
    return asked.question or f"Call {asked.tool}?"


def _question(asked: Approval) -> str:
    rows = ""
    if asked.question is None and asked.arguments:
        items = "".join(
            f"<dt>{escape(str(name))}</dt><dd>{escape(_value(value))}</dd>"
            for name, value in asked.arguments.items()
        )
        rows = f"<dl>{items}</dl>"
    return f"<h1>{escape(words_of(asked))}</h1>{rows}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _time(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}">{at.day} {at:%B %Y, %H:%M} UTC</time>'


def _page(title: str, *parts: str, status: int = 200) -> Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )
    # A stored text may hold half of a surrogate pair.
    body = text.encode("utf-8", "replace")
    return Response(body, status, headers=HEADERS, media_type="text/html; charset=utf-8")
