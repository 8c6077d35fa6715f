"""Notes of the history: whatever a conversation holds and a page shows, none is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from assistant_queue.accounting import AttemptInfo, Timeline
from assistant_queue.core import history_notes
from assistant_queue.core.history_notes import Item, Note, load_notes
from assistant_queue.core.journal_entries import EndedBatch, dump_batch
from assistant_queue.core.progress import moment
from assistant_queue.models import Message

START_MS = 1_700_000_000_000


@dataclass
class World:
    """A conversation, the journal of its thread, and what is true of each item."""

    items: list[Item] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    truth: dict[str, Note] = field(default_factory=dict)
    at_ms: int = START_MS

    def put(self, kind: history_notes.Kind, note: Note | None = None) -> str:
        item = Item(f"item_{len(self.truth)}_{len(self.items)}", kind)
        self.items.append(item)
        self.truth[item.id] = note or Note()
        return item.id

    def answer(self, authors: list[str | None], rounds: int, *, says: bool, names: bool) -> None:
        """Put a batch of so many messages and its answer; `names`: the ids are known."""
        messages = []
        for number, author in enumerate(authors):
            self.at_ms += 1000
            message = Message(
                id=f"m{len(self.entries)}-{number}",
                content="?",
                author=author,
                queued_at=moment(self.at_ms),
            )
            messages.append(message)
            self.put("user", Note(author, message.queued_at))
        self.at_ms += 1500
        ended = self.at_ms
        shown = []
        for _ in range(rounds):
            self.put("other")
            if says:
                shown.append(self.put("assistant", Note(None, moment(ended))))
            self.put("other")
        shown.append(self.put("assistant", Note(None, moment(ended))))
        self.entries.append(
            dump_batch(
                EndedBatch(
                    batch_id=f"batch-{len(self.entries)}",
                    message_ids=[one.id for one in messages],
                    outcome="completed",
                    ended_ms=ended,
                    timeline=Timeline(
                        queued_at=messages[0].queued_at,
                        attempts=(AttemptInfo(number=1, started_at=moment(ended), run_id="r"),),
                    ),
                    attempts=1,
                    run_id="r",
                    messages=messages,
                    shown=shown if names else (),
                )
            )
        )


AUTHORS = st.lists(st.sampled_from([None, "Ann", "Bob"]), min_size=1, max_size=4)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World()
    for _ in range(draw(st.integers(1, 6))):
        what = draw(st.sampled_from(["batch", "batch", "batch", "beside", "beside run"]))
        if what == "batch":
            world.answer(
                draw(AUTHORS),
                draw(st.integers(0, 2)),
                says=draw(st.booleans()),
                names=draw(st.booleans()),
            )
        else:
            world.put("user")
            if what == "beside run":
                world.put("assistant")
    return world


@settings(max_examples=300, deadline=None)
@given(worlds(), st.data())
def test_no_note_is_wrong_in_any_part_of_a_conversation(world: World, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(world.items)))
    last = data.draw(st.integers(first, len(world.items)))
    kept = world.entries[data.draw(st.integers(0, len(world.entries))) :]
    part = world.items[first:last]
    found = load_notes(kept).of_items(part, begins=first == 0, ends=last == len(world.items))
    assert found.items() <= world.truth.items()


@settings(max_examples=200, deadline=None)
@given(worlds(), st.data())
def test_a_list_in_the_opposite_order_has_no_wrong_author(
    world: World, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(world.items)))
    last = data.draw(st.integers(first, len(world.items)))
    part = world.items[::-1][first:last]
    found = load_notes(world.entries).of_items(
        part, begins=first == 0, ends=last == len(world.items)
    )
    assert all(note.author in {None, world.truth[name].author} for name, note in found.items())


@settings(max_examples=200, deadline=None)
@given(st.lists(AUTHORS, min_size=1, max_size=5))
def test_a_conversation_of_the_queue_alone_is_known_throughout(batches: list[list[str]]) -> None:
    world = World()
    for authors in batches:
        world.answer(list(authors), 1, says=True, names=True)
    found = load_notes(world.entries).of_items(world.items, begins=True, ends=True)
    told = {item.id for item in world.items if item.kind != "other"}
    assert found == {name: note for name, note in world.truth.items() if name in told}


def test_what_another_program_wrote_into_a_journal_is_passed_over() -> None:
    world = World()
    world.answer(["Ann"], 0, says=False, names=True)
    odd = ["", "{}", "[]", "[1]", '[1,"b",["m"],[0,0],[],0,0,0,"abc x"]', '[1,"b",["m"],0,{},"="]']
    odd += ['[1,"b",["m","n"],[0,0],[],0,0,0,{"a":["x"]}]', '["x","b",["m"],[0,0],[],0,0,0,"="]']
    found = load_notes([*odd, *world.entries]).of_items(world.items, begins=True, ends=True)
    assert found == world.truth


def test_an_item_of_several_messages_has_an_author_if_they_have_the_same() -> None:
    world = World()
    world.answer(["Ann", "Ann", "Bob"], 0, says=False, names=False)
    notes = load_notes(world.entries)
    assert notes.of_messages(["m0-0", "m0-1"]) == Note("Ann", moment(START_MS + 1000))
    assert notes.of_messages(["m0-1", "m0-2"]).author is None
    assert notes.of_messages(["m0-0", "another"]) == Note()
    assert notes.of_messages([]) == Note()


def test_a_batch_of_very_many_messages_has_no_places() -> None:
    world = World()
    world.answer(["Ann"] * 101, 0, says=False, names=True)
    found = load_notes(world.entries).of_items(world.items, begins=True, ends=True)
    assert [note.author for note in found.values()] == [None]
