"""Compact JSON. Its encoders are made once: `json.dumps` with options makes one at every call."""

from __future__ import annotations

import json

to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
"""Return a value as JSON without blanks; characters stay as they are."""
to_ascii_json = json.JSONEncoder(separators=(",", ":")).encode
"""Return a value as JSON without blanks; characters beyond ASCII are escaped."""
