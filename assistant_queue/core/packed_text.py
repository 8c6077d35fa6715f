r"""Compact form of JSON that waits in Redis for long: compressed, and readable as ASCII.

Redis keeps a hash in a fraction of the memory as long as no value is longer than 64 bytes. So the
memory of a parked batch is stored in this form, cut into short values (`store/lua/_compact.lua`).

    {"run_id":"resp_4f…","sent_ms":1796096532332}
         │ ids and times out of the text        │ the rest: almost a part of the dictionary
         ▼                                      ▼
    length, bytes; difference, ...         deflate(`{"run_id":"resp_\1","sent_ms":\2}`)
"""

from __future__ import annotations

import base64
import re
import zlib

MARK = "~"
"""First character of the form: no JSON begins with it. Another dictionary needs another mark."""

_MARKS = 16_777_213
"""Values of `mark_of`, a prime. Chosen: two calls of one batch hardly ever have the same."""

MOST_CHARS = 16_000
"""Characters of a text that is packed. Chosen: half a millisecond; a longer one is mostly words of
users, for which the form would save little."""

_MOST_BYTES = 1_000_000
"""Bytes of an unpacked text. Chosen: `MOST_CHARS` never have as many, and a corrupt one may."""

_DICTIONARY = (
    b'"refusals":1,"waiting_since_ms":\x02"failures":1,"error":{"code":"","message":"'
    b'"replies":["],"shown":["msg_\x01"deadline_ms":\x02"stored":1,"detached":true,"carried":"'
    b'"held":true,"rounds":1,"outputs":{"{\\"error\\":"settled":[[","approved","tools":[["'
    b'run_thread_chatcmpl-","default"],"usage":[1,0,0,0,1,"gpt-4o-mini","gpt-5'
    b'{"attempts":1,"sent_ms":\x02,"deadline_ms":\x02,"run_id":"resp_\x01","tries":[[1,\x02,\x02,"'
    b'"authors":["],"tenant":"{"tool":"","arguments":"{\\"amount\\":","question":"",'
    b'"kind":"answer","authors":[],"tenant":null}","kind":"approval","authors":[],"tenant":null}'
    b'{"attempts":1,"sent_ms":\x02,"deadline_ms":\x02,"located":true,"anchor":"msg_\x01",'
    b'"run_id":"resp_\x01","asked":{"run_id":"resp_\x01","calls":[["call_\x01","","{\\"\\"}"]],'
    b'"replies":[],"usage":[,0,0,0,1,"","default"],"transcript":null,"anchor":"fc_\x01"},'
    b'"outside":[["call_\x01","call_\x01","approval",\x02,"",1]],"parked_ms":\x02,'
    b'"tries":[[1,\x02,\x02,"","resp_\x01"]],"run_sent_ms":\x02}'
    b'{"attempts":1,"sent_ms":\x02,"deadline_ms":\x02,"located":true,"run_id":"resp_\x01","tries":'
)
"""Part of the stored format: it never changes."""

_TOKEN = re.compile(rb"(?P<id>(?:[0-9a-f]{2}){8,100})|(?<![\w.-])(?P<ms>1[0-9]{12})(?![\w.])")
"""An id in hexadecimal digits, or a time in milliseconds."""

_ID = b"\x01"
_MS = b"\x02"
_TAKEN_OUT = re.compile(rb"[\x01\x02]")
_KNOWN = 0x80
"""With the number of an id that was there before; less is the length of one that was not."""
_MOST_KNOWN = 0x80
_RAW = -15
"""No header and no checksum: a corrupt text is no JSON. Source: zlib's `wbits`."""


def pack(text: str, *head: str) -> str:
    """Return JSON in its compact form, preceded by words that are readable without unpacking it.

    A long text, and one with control characters, is returned as it is.
    """
    raw = text.encode("utf-8", "surrogatepass")
    if len(text) > MOST_CHARS or _TAKEN_OUT.search(raw):
        return text
    taken = bytearray()
    ids: list[bytes] = []
    last = 0

    def take(match: re.Match[bytes]) -> bytes:
        nonlocal last
        if match["ms"]:
            step = int(match["ms"]) - last
            last += step
            taken.extend(_number(2 * step if step >= 0 else -2 * step - 1))
            return _MS
        one = bytes.fromhex(match["id"].decode())
        if one in ids:
            taken.append(_KNOWN | ids.index(one))
        else:
            taken.append(len(one))
            taken.extend(one)
            if len(ids) < _MOST_KNOWN:
                ids.append(one)
        return _ID

    rest = _TOKEN.sub(take, raw)
    deflate = zlib.compressobj(9, zlib.DEFLATED, _RAW, zdict=_DICTIONARY)
    packed = deflate.compress(rest) + deflate.flush() + taken
    return MARK + " ".join((*head, base64.b85encode(packed).decode()))


def unpack(text: str) -> str:
    """Return the JSON of a packed text; any other text is returned as it is.

    Raises:
        ValueError: It was not written by `pack`.
    """
    if not text.startswith(MARK):
        return text
    try:
        inflate = zlib.decompressobj(_RAW, _DICTIONARY)
        packed = base64.b85decode(text[1:].rpartition(" ")[2])
        rest = inflate.decompress(packed, _MOST_BYTES)
        if not inflate.eof:
            raise ValueError("its end is missing")
        return _whole(rest, inflate.unused_data).decode("utf-8", "surrogatepass")
    except (zlib.error, ValueError, IndexError) as error:
        msg = f"not a packed text: {type(error).__name__}"
        raise ValueError(msg) from error


def mark_of(name: str) -> str:
    """Return a short mark of an id, that of `lua/_compact.lua`."""
    total = 0
    for byte in name.encode("utf-8", "surrogatepass"):
        total = (total * 31 + byte) % _MARKS
    return f"{total:06x}"


def _whole(rest: bytes, taken: bytes) -> bytes:
    """Return a text with its ids and times."""
    ids: list[bytes] = []
    at = last = 0

    def put(match: re.Match[bytes]) -> bytes:
        nonlocal at, last
        if match[0] == _MS:
            number, at = _read_number(taken, at)
            last += number // 2 if number % 2 == 0 else -(number + 1) // 2
            return b"%d" % last
        size = taken[at]
        at += 1
        if size >= _KNOWN:
            return ids[size - _KNOWN]
        if at + size > len(taken):
            raise ValueError("an id is missing")
        ids.append(taken[at : at + size].hex().encode())
        at += size
        return ids[-1]

    return _TAKEN_OUT.sub(put, rest)


def _number(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first."""
    groups = bytearray()
    while number > _GROUP:
        groups.append(number & _GROUP | _MORE)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _read_number(taken: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it."""
    number = shift = 0
    while taken[at] & _MORE:
        number |= (taken[at] & _GROUP) << shift
        shift += 7
        at += 1
    return number | taken[at] << shift, at + 1


_GROUP = 0x7F
_MORE = 0x80
