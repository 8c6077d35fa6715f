"""The compact form of what waits for long: exact, short, and never mistaken for something else."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant_queue.core import packed_text
from assistant_queue.core.packed_text import mark_of, pack, unpack
from assistant_queue.core.progress import Progress

IDS = st.binary(min_size=8, max_size=30).map(bytes.hex)
TIMES = st.integers(10**12, 2 * 10**12 - 1).map(str)
PARTS = IDS | TIMES | st.text(st.characters(exclude_characters="\x01\x02")) | st.just('"run_id":')
CRC = 1_121_514_021
STORED = "~!xo50HUa<;8VXG}86Z1OB7g}#4cC9>*!__E#b^"
PARKED = (
    '{"attempts":1,"sent_ms":1796096532332,"deadline_ms":1796097132332,"located":true,'
    '"run_id":"resp_1a0a4d3719203b4e2280093e0dd77fe6","parked_ms":1796096532520,'
    '"tries":[[1,1796096532301,1796096532520,"vm:21530","resp_1a0a4d3719203b4e2280093e0dd77fe6"]],'
    '"run_sent_ms":1796096532332}'
)


@given(st.lists(PARTS, max_size=12).map("".join))
@settings(max_examples=60)
def test_every_text_is_unpacked_as_it_was(text: str) -> None:
    assert unpack(pack(text, "1", "0ea1b4")) == text


def test_what_a_parked_batch_remembers_is_a_third_as_long_and_ascii() -> None:
    packed = pack(PARKED)
    assert packed.isascii()
    assert len(packed) < len(PARKED) / 3
    assert " " not in packed
    head, *rest = Progress.load(PARKED).pack().split(" ")
    assert (head, rest[0]) == ("~1", mark_of("resp_1a0a4d3719203b4e2280093e0dd77fe6"))
    assert Progress.load(Progress.load(PARKED).pack()) == Progress.load(PARKED)


def test_a_long_text_and_one_with_control_characters_stay_as_they_are() -> None:
    for text in ("x" * 16_001, "a\x01b", "\x02"):
        assert pack(text, "1") == text == unpack(text)


def test_what_was_packed_once_stays_readable() -> None:
    """The dictionary is a part of the stored format: another one needs another mark."""
    assert zlib.crc32(packed_text._DICTIONARY) == CRC
    text = '{"run_id":"resp_1a0a4d3719203b4e2280093e0dd77fe6","sent_ms":1796096532332}'
    assert unpack(STORED) == text


def test_a_corrupt_text_is_an_error_of_its_value() -> None:
    packed = pack(PARKED, "1")
    cut = [packed[:end] for end in range(1, len(packed), 7)]
    for text in (*cut, "~", "~1 x ", "~\x00", "~é", packed + "!!!!!"):
        try:
            found = unpack(text)
        except ValueError:
            continue
        assert found == PARKED, "what follows the text is ignored"
    with pytest.raises(ValueError, match="not a packed text"):
        unpack(packed[:-10])
