"""The demo's input files, and that its verdict can be a bad one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from assistant_queue.cli import main
from assistant_queue.cli.demo.board import Board, BoardAnswer, BoardMessage
from assistant_queue.cli.demo.lines import BadLine, Line, parse_line, read_lines
from assistant_queue.cli.demo.scene import own_scene, the_scene
from assistant_queue.cli.demo.screens import ScreensVerdict, judge_screens
from assistant_queue.cli.demo.telegram_entrance import on_telegram
from assistant_queue.cli.demo.verdict import judge
from assistant_queue.cli.exit_errors import Misuse
from assistant_queue.models import Receipt
from assistant_queue.testing.provider import Overlap, Refusal, Request, RunRecord

EXAMPLE = Path(__file__).parents[2] / "examples" / "conversations.jsonl"


# --- input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "it is list"),
        (b'{"t": 1, "thread": "a"}', "text missing"),
        (b'{"text": "x"}', "t and thread missing"),
        (b'{"t": 1, "thread": "a", "text": "x", "user": "b"}', "'user' unknown"),
        (b'{"t": true, "thread": "a", "text": "x"}', "t must be a number"),
        (b'{"t": NaN, "thread": "a", "text": "x"}', "t must be a number"),
        (b'{"t": "1", "thread": "a", "text": "x"}', "t must be a number"),
        (b'{"t": 1, "thread": 7, "text": "x"}', "thread_id must be a string"),
        (b'{"t": 1, "thread": "", "text": "x"}', "thread_id must have 1 to 512"),
        (b'{"t": 1, "thread": "a", "text": ["x"]}', "text must be a string"),
        (b'{"t": 1, "thread": "a", "text": " "}', "blank"),
        (b'{"t": 1, "thread": "a", "text": "\\ud800"}', "surrogate"),
        (
            b'{"t": 1, "thread": "a", "text": "x", "author": "a\\nb"}',
            "author must be a printable name",
        ),
    ],
)
def test_a_bad_line_is_refused_and_says_why(row: bytes, says: str) -> None:
    with pytest.raises(BadLine, match=says):
        parse_line(row)


def test_lines_are_played_in_the_order_of_their_times_from_zero(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"t": 107, "thread": "a", "text": "2"}\r\n\n{"t": 100.5, "thread": "b", "text": "1", "author": "x"}'
    )
    assert read_lines(path) == (
        Line(at=0.0, thread="b", text="1", author="x"),
        Line(at=6.5, thread="a", text="2"),
    )


def test_lines_of_one_time_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(f'{{"t": 1, "thread": "a", "text": "{number}"}}\n' for number in range(20))
    )
    assert [line.text for line in read_lines(path)] == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    ("content", "says"), [("\n \n", "holds no message"), (None, "No such file")]
)
def test_a_file_with_nothing_to_play_is_refused(
    tmp_path: Path, content: str | None, says: str
) -> None:
    path = tmp_path / "in.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Misuse, match=says) as raised:
        read_lines(path)
    assert raised.value.exit_code == 2


def test_the_first_bad_line_is_named_and_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"t": 0, "thread": "a", "text": "x"}\n\nno\nno\nno\n')
    with pytest.raises(
        Misuse,
        match=r"in\.jsonl, line 3: it is not JSON.*\(2 more lines are wrong\); nothing was started",
    ):
        read_lines(path)


def test_the_example_is_a_busy_five_minutes() -> None:
    lines = read_lines(EXAMPLE)
    assert 280 <= len(lines) <= 340
    assert 24 <= len({line.thread for line in lines}) <= 28
    assert 240 <= lines[-1].at <= 320
    assert len({line.thread for line in lines if line.author is not None}) >= 5


@pytest.mark.parametrize("has_long_reply", [False, True])
def test_the_scene_is_in_order_and_every_story_is_a_threads(has_long_reply: bool) -> None:
    scene = the_scene(has_long_reply=has_long_reply)
    assert [line.at for line in scene.lines] == sorted(line.at for line in scene.lines)
    assert set(scene.stories) == set(scene.threads)
    assert all(any(text in line.text for line in scene.lines) for text in scene.refused)
    assert all(any(entry.about in line.text for line in scene.lines) for entry in scene.script)


# --- verdict --------------------------------------------------------------------------------------


def played(*lines: Line) -> Board:
    """A board on which all lines of a thread were answered by one run."""
    board = Board()
    due = datetime(2030, 1, 1, tzinfo=UTC)
    for number, line in enumerate(lines):
        receipt = Receipt(
            message_id=f"m{number}",
            thread_id=line.thread,
            job_id=f"j{number}",
            due_at=due,
            duplicate=False,
        )
        board.add(BoardMessage(line=line, receipt=receipt, at=due.timestamp() - 1))
    for thread in list(board.rows):
        ids = tuple(key for key, sent in board.sent.items() if sent.line.thread == thread)
        at = (due + timedelta(seconds=2)).timestamp()
        answer = BoardAnswer(
            thread=thread,
            batch_id=f"b-{thread}",
            run_id="r",
            message_ids=ids,
            reply="ok",
            attempts=1,
            claimed_at=at - 1.5,
            at=at,
        )
        board.answer(answer)
        board.conversations[thread] = f"conv-{thread}"
    return board


def provider(*runs: RunRecord, **other: Any) -> Any:
    """Return the part of the stand-in that the verdict reads."""
    due = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    start = Request(
        number=1,
        at=due + 0.25,
        method="POST",
        path="/responses",
        op="responses.create",
        protocol="responses",
        conversation_id=None,
    )
    requests = [replace(start, body={"metadata": dict(run.metadata)}) for run in runs]
    return SimpleNamespace(
        **{"runs": runs, "refusals": (), "overlaps": (), "requests": requests, **other}
    )


def run(thread: str, *texts: str, status: str = "completed") -> RunRecord:
    return RunRecord(
        id="r",
        protocol="responses",
        conversation_id=f"conv-{thread}",
        request=1,
        user_texts=texts,
        metadata={"aq_batch": f"b-{thread}"},
        status=status,
    )


A, B = Line(at=0, thread="a", text="one"), Line(at=1, thread="a", text="two")


def test_a_scene_that_went_well_holds() -> None:
    verdict = judge(played(A, B), provider(run("a", "one", "two")))
    assert verdict.holds
    assert (verdict.messages, verdict.runs, verdict.runs_saved) == (2, 1, 1)
    assert (verdict.reply_waits.median, verdict.start_waits.longest) == (3.0, 0.25)


def test_names_and_further_lines_are_recognised_as_the_model_sees_them() -> None:
    signed = replace(B, author="Léa", text="two\nthree")
    assert judge(
        played(A, signed), provider(run("a", "(no name): one", "Léa: two\n    three"))
    ).holds


@pytest.mark.parametrize(
    ("oracle", "lost", "doubled", "ordered"),
    [
        (provider(run("a", "one")), 1, 0, 1),
        (provider(run("a", "one", "two", status="failed")), 2, 0, 1),
        (provider(run("a", "one", "two"), run("a", "two")), 0, 1, 0),
        (provider(run("a", "one", "two"), run("elsewhere", "one")), 0, 1, 1),
        (provider(run("a", "two", "one")), 0, 0, 0),
        (provider(run("a", "one", "too")), 1, 1, 0),
    ],
    ids=["lost", "not completed", "doubled", "in a thread of nobody", "swapped", "garbled"],
)
def test_a_broken_promise_is_seen_in_the_providers_log(
    oracle: Any, lost: int, doubled: int, ordered: int
) -> None:
    verdict = judge(played(A, B), oracle)
    assert (verdict.lost, verdict.doubled, verdict.ordered) == (lost, doubled, ordered)
    assert not verdict.holds


def test_two_runs_at_once_break_a_promise_whether_they_were_let_in_or_refused() -> None:
    good = run("a", "one", "two")
    let_in = provider(good, overlaps=(Overlap(0.0, "conv-a", "r2", ("r1",)),))
    turned_away = Refusal(
        2, 0.0, "responses.create", "conv-a", 400, "conversation_locked", "busy", scripted=False
    )
    assert judge(played(A, B), let_in).at_once == 1
    assert judge(played(A, B), provider(good, refusals=(turned_away,))).at_once == 1
    assert judge(
        played(A, B), provider(good, refusals=(replace(turned_away, scripted=True),))
    ).holds


def test_without_a_stand_in_the_verdict_names_the_records_it_is_by() -> None:
    verdict = judge(played(A, B), None)
    assert verdict.holds
    assert "own records" in verdict.checked_by


# --- on a platform --------------------------------------------------------------------------------

SAID = {"telegram:1": [["a1", "a2"], ["b"]], "telegram:2": [["c"]]}


def screens_of(one: list[str], **more: Any) -> ScreensVerdict:
    return judge_screens(SAID, {"telegram:1": one, "telegram:2": ["c"]}, **more)


def test_screens_with_each_part_once_hold() -> None:
    verdict = screens_of(["a1", "a2", "b"])
    assert verdict.holds
    assert (verdict.replies, verdict.parts, verdict.chats) == (3, 4, 2)


@pytest.mark.parametrize(
    ("shown", "lost", "doubled", "ordered"),
    [
        (["a1", "b"], 1, 0, 2),
        (["a1", "a2", "a2", "b"], 0, 1, 1),
        (["a1", "a2", "b", "b"], 0, 1, 1),
        (["b", "a1", "a2"], 0, 0, 1),
        (["a1", "a2", "b", "never said"], 0, 1, 1),
    ],
    ids=["lost", "part doubled", "reply doubled", "swapped", "strange"],
)
def test_a_broken_promise_is_seen_on_the_screens(
    shown: list[str], lost: int, doubled: int, ordered: int
) -> None:
    verdict = screens_of(shown)
    assert (verdict.lost, verdict.doubled, verdict.ordered) == (lost, doubled, ordered)
    assert not verdict.holds
    assert not judge(played(A, B), provider(run("a", "one", "two")), verdict).holds


def test_a_message_in_a_chat_that_was_not_answered_is_doubled() -> None:
    shown = {"telegram:1": ["a1", "a2", "b"], "telegram:2": ["c"], "telegram:3": ["c"]}
    assert judge_screens(SAID, shown).doubled == 1


def test_a_half_reply_is_counted_and_one_delivered_by_hand_may_be_late() -> None:
    verdict = screens_of(["a1 …", "b", "a1", "a2"], by_hand=["a1", "a2"])
    assert verdict.holds
    assert verdict.halves == 1


def test_threads_become_chats_and_every_message_has_a_name() -> None:
    scene = on_telegram(
        own_scene("own", [A, replace(B, thread="the-lake", author="Tom"), replace(B, at=2)])
    )
    assert scene.threads == ("telegram:1001", "telegram:-1002")
    assert [line.author for line in scene.lines] == ["A", "Tom", "A"]


def test_a_channel_belongs_to_the_scene() -> None:
    done = CliRunner().invoke(main, ["demo", "--web", "--channel", "telegram"])
    assert done.exit_code == 2
    assert "--channel belongs to the scene" in done.stderr
