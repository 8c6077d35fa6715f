"""Ids in fewer characters: most end with hexadecimal digits, which are a third shorter in base 64."""

from __future__ import annotations

import base64
import binascii
import re

_HEX = re.compile(r"((?:[0-9a-f]{2}){8,})$")
"""The random end of most ids."""
_PACKED = "~"


def pack_id(name: str) -> str:
    """Return an id in fewer characters, if it ends with hexadecimal digits as most do."""
    if _PACKED in name:
        return f"{_PACKED}{_PACKED}{name}"
    found = _HEX.search(name)
    if found is None:
        return name
    packed = base64.urlsafe_b64encode(bytes.fromhex(found[1])).decode().rstrip("=")
    return f"{name[: found.start()]}{_PACKED}{packed}"


def unpack_id(said: str) -> str:
    """The opposite of `pack_id`.

    Raises:
        ValueError, TypeError: It was not packed by it.
    """
    if said.startswith(_PACKED * 2):
        return said[2:]
    beginning, is_packed, packed = said.partition(_PACKED)
    if not is_packed:
        return said
    try:
        filled = packed + "=" * (-len(packed) % 4)
        return beginning + base64.urlsafe_b64decode(filled).hex()
    except binascii.Error as error:
        raise ValueError(said) from error
