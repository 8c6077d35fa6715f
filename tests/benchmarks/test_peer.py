"""The comparison with the TypeScript library, without Node.js: refusals, turns, table, polled runs."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.lean_provider import REPLY, Connection, Provider
from tests.benchmarks.peer import __main__ as command
from tests.benchmarks.peer.comparing import ALL, SECTIONS, compare, compare_all
from tests.benchmarks.peer.measures import Figures
from tests.benchmarks.peer.sides import HERE, PEER, RESPONSES, Lane


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The files by which a built checkout is known."""
    for name in ("dist/index.js", "node_modules/bullmq/index.js", "node_modules/openai/index.js"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a `node` that is never run."""
    path = tmp_path_factory.mktemp("bin") / "node"
    path.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(path.parent))
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--quick"], ["--checkout is missing", "npm run build"]),
        (["--checkout", "."], ["Not a built checkout", "no dist/index.js", "npm run build"]),
        (["--checkout", "BUILT", "waitng"], ["no such rows: waitng"]),
        (["--checkout", "BUILT"], ["No node on the PATH"]),
    ],
)
def test_the_command_says_what_it_needs(
    arguments: list[str],
    words: list[str],
    built: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(built))
    with pytest.raises(SystemExit) as ended:
        command.main([str(built) if word == "BUILT" else word for word in arguments])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert all(word in printed.err for word in words), printed.err
    assert not printed.out


def test_all_rows_are_measured_in_turns_and_printed(
    built: Path, node: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(checkout: Any, amounts: Any, names: list[str]) -> Any:
        assert checkout.node == str(node)
        return compare_all(names, canned, amounts.rounds)

    def canned(name: str, lane: Lane) -> Figures:
        return {figure: 2.0 if lane is PEER else 1.0 for figure, _, _ in ALL[name].rows}

    monkeypatch.setattr(command, "measure", measure)
    command.main(["--checkout", str(built)])
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[1::2][:4] == ["what", "here", "beside", "ratio"]
    lanes = sum((len(s.lanes) - 1 or 1) * len(s.rows) for s in SECTIONS.values())
    assert len(lines) == len(SECTIONS) + lanes
    assert len({line.split("|")[1] for line in lines}) > len(lines) / 2
    assert sum("| 0.50 " in line for line in lines) == lanes - len(SECTIONS["bulk"].rows)


def test_a_row_has_the_medians_of_turns() -> None:
    order: list[Lane] = []
    figures: dict[Lane, Iterator[float]] = {
        HERE: iter([30.0, 10.0, 11.0]),
        RESPONSES: itertools.repeat(90.0),
        PEER: iter([10.0, 40.0, 60.0]),
    }

    def take(name: str, lane: Lane) -> Figures:
        order.append(lane)
        value = next(figures[lane])
        return {"p50": value, "p95": value, "p99": 0.0}

    here, _, nothing, responses, *_ = compare("waiting", take, 3)
    assert order == [HERE, RESPONSES, PEER] * 3
    assert here.cells()[1:5] == ("11.00 ms", "40.00 ms", "0.28", "0.18-3.00")
    assert responses.what == "window's end to run request, p50, Responses"
    assert responses.cells()[1:4] == ("90.00 ms", "40.00 ms", "2.25")
    assert nothing.cells()[1:5] == ("0.00 ms", "0.00 ms", "", "")


def test_a_section_that_fails_costs_its_own_rows_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def take(name: str, lane: Lane) -> Figures:
        if name == "reply":
            raise RuntimeError("a worker has ended")
        return {"first_run_s": 1.0}

    failed, started = compare_all(["reply", "starting"], take, 1)
    assert failed.cells()[:2] == ("failed: see the errors", "-")
    assert started.cells()[1] == "1.00 s"
    assert "a worker has ended" in capsys.readouterr().err


class Transport(asyncio.Transport):
    """Keeps what a connection writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data


def test_the_lean_provider_polls_runs_that_are_not_streamed() -> None:
    async def play() -> None:
        provider = Provider(hold_s=60)
        connection = Connection(provider)
        transport = Transport()
        connection.connection_made(transport)

        def ask(line: str, body: str = "") -> Any:
            transport.written = b""
            head = f"{line} HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.data_received((head + body).encode())
            return json.loads(transport.written.partition(b"\r\n\r\n")[2])

        question = '{"role":"user","content":"Where is my order? Where is my order?"}'
        assert ask("POST /v1/threads/t1/messages", question)["role"] == "user"
        run = ask("POST /v1/threads/t1/runs", '{"assistant_id":"asst"}')
        assert run["status"] == "queued"
        path = f"GET /v1/threads/t1/runs/{run['id']}"
        assert (ask(path)["id"], ask(path)["status"]) == (run["id"], "in_progress")
        assert ask("GET /count") == {"runs": 1, "messages_sent": 2}
        ask("GET /reset?hold=0")
        run = ask("POST /v1/threads/t2/runs", '{"assistant_id":"asst"}')
        assert ask(f"GET /v1/threads/t2/runs/{run['id']}")["status"] == "completed"
        (reply,) = ask("GET /v1/threads/t2/messages?limit=1")["data"]
        assert reply["content"][0]["text"]["value"] == REPLY
        assert ask("GET /stats")["requests"] == 3

    asyncio.run(play())
