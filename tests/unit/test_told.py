"""How much of a run's text was told: whoever goes on, and whatever is lost, the text is told once and whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.core.told import Piece, Told


class Reader:
    """Puts pieces together; a gap or a repeat is an error."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.restarts = 0

    def take(self, told: Told) -> None:
        for piece in told.take():
            before = self.texts.get(piece.index, "")
            if piece.offset == 0 and before:
                self.restarts += 1
                before = ""
            assert piece.offset == len(before)
            assert piece.text
            self.texts[piece.index] = before + piece.text

    def replies(self) -> list[str]:
        return [self.texts[index] for index in sorted(self.texts)]


texts = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), min_size=1, max_size=4)
happenings = st.lists(st.sampled_from(["tell", "die", "die and forget", "hear", "hear", "hear"]), max_size=40)


@given(texts, happenings, st.randoms(use_true_random=False), st.booleans())
def test_the_text_is_told_once_and_whole_by_however_many_workers(said: list[str], steps: list[str], chance: object, resumes: bool) -> None:
    """A stream that can be resumed goes on behind what was stored; one that cannot is settled by the whole text."""
    letters = [(f"msg_{index}", letter) for index, text in enumerate(said) for letter in text]
    reader, told, stored, place, is_cut = Reader(), Told(), "", 0, False
    told.begin("run_1", is_round=False)
    for step in steps:
        if step == "hear" and place < len(letters) and not is_cut:
            size = chance.randint(1, 5)  # type: ignore[attr-defined]
            for key, letter in letters[place : place + size]:
                place += 1
                told.hear(key, letter, place)
        elif step == "tell" and told.has_news:
            reader.take(told)
            stored = told.dump()
        elif step.startswith("die"):
            told = Told.load(stored)
            told.begin("run_1", is_round=False)
            if resumes:
                place = (told.cursor or 0) if stored else 0
            else:
                is_cut = True
    told.settle(said, whole=False)
    reader.take(told)
    assert reader.replies() == said
    assert reader.restarts == 0
    assert not told.has_news


@given(texts, texts)
def test_a_text_that_turns_out_to_be_another_is_told_again_from_its_beginning(heard: list[str], said: list[str]) -> None:
    reader, told = Reader(), Told()
    told.begin("run_1", is_round=False)
    for index, text in enumerate(heard):
        told.hear(f"msg_{index}", text, None)
    reader.take(told)
    told.settle(said, whole=False)
    reader.take(told)
    assert reader.replies()[: len(said)] == said


def test_the_rounds_of_one_run_stand_behind_each_other() -> None:
    reader, told = Reader(), Told()
    told.begin("run_1", is_round=False)
    told.hear("msg_1", "One ", None)
    told.settle(["One moment."], whole=False)
    told.begin("run_1", is_round=True)
    told.hear("msg_2", "It is ", None)
    reader.take(told)
    told = Told.load(told.dump())
    told.begin("run_1", is_round=False)
    told.settle(["One moment.", "It is shipped."], whole=True)
    reader.take(told)
    assert reader.replies() == ["One moment.", "It is shipped."]
    assert reader.restarts == 0


def test_another_run_begins_with_nothing() -> None:
    told = Told()
    told.begin("run_1", is_round=False)
    told.hear("msg_1", "Hello", 7)
    told.take()
    told.begin("run_2", is_round=True)
    assert (told.run_id, told.cursor, told.is_silent, told.has_begun) == ("run_2", None, True, False)
    told.hear("msg_1", "Again", 1)
    assert told.take() == [Piece(0, 0, "Again")]


def test_whoever_listens_first_is_told_all_that_this_worker_has_heard() -> None:
    told = Told()
    told.begin("run_1", is_round=False)
    told.hear("msg_1", "so ", None)
    told.take()
    told.hear("msg_1", "far", None)
    told.begin_again()
    assert told.take() == [Piece(0, 0, "so far")]


def test_half_a_character_is_no_trouble() -> None:
    told = Told()
    told.begin("run_1", is_round=False)
    told.hear("msg_1", "\ud83d", None)
    told.hear("msg_1", "\ude9a", None)
    assert told.take() == [Piece(0, 0, "\ud83d\ude9a")]
    assert Told.load(told.dump()).dump() == told.dump()
