"""A run's text is published once and whole, whichever worker continues and whatever is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.core.delta_tracker import DeltaTracker, Piece


class Reader:
    """Puts pieces together; a gap or a repeat is an error."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.restarts = 0

    def take(self, tracker: DeltaTracker) -> None:
        for piece in tracker.take():
            before = self.texts.get(piece.index, "")
            if piece.offset == 0 and before:
                self.restarts += 1
                before = ""
            assert piece.offset == len(before)
            assert piece.text
            self.texts[piece.index] = before + piece.text

    def replies(self) -> list[str]:
        return [self.texts[index] for index in sorted(self.texts)]


texts = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), min_size=1, max_size=4
)
happenings = st.lists(
    st.sampled_from(["publish", "die", "die and forget", "hear", "hear", "hear"]), max_size=40
)


@given(texts, happenings, st.randoms(use_true_random=False), st.booleans())
def test_the_text_is_published_once_and_whole_by_however_many_workers(
    said: list[str], steps: list[str], chance: object, resumes: bool
) -> None:
    """A stream resumes after the stored place; without a place, the whole text settles it."""
    letters = [(f"msg_{index}", letter) for index, text in enumerate(said) for letter in text]
    reader = Reader()
    tracker = DeltaTracker()
    stored = ""
    place = 0
    is_cut = False
    tracker.begin("run_1", is_round=False)
    for step in steps:
        if step == "hear" and place < len(letters) and not is_cut:
            size = chance.randint(1, 5)  # type: ignore[attr-defined]
            for key, letter in letters[place : place + size]:
                place += 1
                tracker.append(key, letter, place)
        elif step == "publish" and tracker.has_unpublished:
            reader.take(tracker)
            stored = tracker.dump()
        elif step.startswith("die"):
            tracker = DeltaTracker.load(stored)
            tracker.begin("run_1", is_round=False)
            if resumes:
                place = (tracker.cursor or 0) if stored else 0
            else:
                is_cut = True
    tracker.complete(said, whole=False)
    reader.take(tracker)
    assert reader.replies() == said
    assert reader.restarts == 0
    assert not tracker.has_unpublished


@given(texts, texts)
def test_a_text_that_turns_out_to_be_another_is_published_again_from_its_beginning(
    heard: list[str], said: list[str]
) -> None:
    reader = Reader()
    tracker = DeltaTracker()
    tracker.begin("run_1", is_round=False)
    for index, text in enumerate(heard):
        tracker.append(f"msg_{index}", text, None)
    reader.take(tracker)
    tracker.complete(said, whole=False)
    reader.take(tracker)
    assert reader.replies()[: len(said)] == said


def test_the_rounds_of_one_run_stand_behind_each_other() -> None:
    reader = Reader()
    tracker = DeltaTracker()
    tracker.begin("run_1", is_round=False)
    tracker.append("msg_1", "One ", None)
    tracker.complete(["One moment."], whole=False)
    tracker.begin("run_1", is_round=True)
    tracker.append("msg_2", "It is ", None)
    reader.take(tracker)
    tracker = DeltaTracker.load(tracker.dump())
    tracker.begin("run_1", is_round=False)
    tracker.complete(["One moment.", "It is shipped."], whole=True)
    reader.take(tracker)
    assert reader.replies() == ["One moment.", "It is shipped."]
    assert reader.restarts == 0


def test_another_run_begins_with_nothing() -> None:
    tracker = DeltaTracker()
    tracker.begin("run_1", is_round=False)
    tracker.append("msg_1", "Hello", 7)
    tracker.take()
    tracker.begin("run_2", is_round=True)
    assert (tracker.run_id, tracker.cursor, tracker.is_empty, tracker.has_published) == (
        "run_2",
        None,
        True,
        False,
    )
    tracker.append("msg_1", "Again", 1)
    assert tracker.take() == [Piece(0, 0, "Again")]


def test_the_first_subscriber_gets_all_text_that_this_worker_has_received() -> None:
    tracker = DeltaTracker()
    tracker.begin("run_1", is_round=False)
    tracker.append("msg_1", "so ", None)
    tracker.take()
    tracker.append("msg_1", "far", None)
    tracker.restart()
    assert tracker.take() == [Piece(0, 0, "so far")]


def test_half_a_character_is_no_trouble() -> None:
    tracker = DeltaTracker()
    tracker.begin("run_1", is_round=False)
    tracker.append("msg_1", "\ud83d", None)
    tracker.append("msg_1", "\ude9a", None)
    assert tracker.take() == [Piece(0, 0, "\ud83d\ude9a")]
    assert DeltaTracker.load(tracker.dump()).dump() == tracker.dump()
