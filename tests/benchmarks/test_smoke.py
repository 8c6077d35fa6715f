"""The benchmarks run and print every row; what they measure is not asserted here."""

from __future__ import annotations

import pytest

from tests import fork_server
from tests.benchmarks import bench, fairness, scaling
from tests.benchmarks.__main__ import LONG, SECTIONS, main
from tests.benchmarks.million import Costs, needs

ROWS = {
    "adding": 10, "depth": 4, "memory": 10, "counting": 9, "waiting": 7, "throughput": 12, "holding": 5, "starting": 7, "leases": 2,
    "depth-long": 4, "holding-long": 5, "events": 5, "web": 5, "hanging": 8, "hostile": 15,
    "delivering": 2, "scraping": 2, "scraping-long": 2, "steering": 4, "background": 6, "ops": 14, "approvals": 2,
}  # fmt: skip


@pytest.mark.timeout(110)
@pytest.mark.parametrize("section", [*SECTIONS, *LONG])
def test_every_row_of_a_section_is_printed(
    section: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "start_process", fork_server.start)
    main(["--quick", section])
    head, rule, title, *rows = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "what",
        "here",
        "beside",
        "ratio",
        "spread",
        "target",
        "met",
    ]
    assert set(rule) <= set("|- ")
    assert f"**{section.replace('-', ' ')}**" in title
    assert len(rows) == ROWS[section]


@pytest.mark.timeout(110)
def test_every_table_of_scaling_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "start_process", fork_server.start)
    scaling.main(["--quick"])
    _machine, processes, threads, adds, million = capsys.readouterr().out.strip().split("\n\n")
    _head, _rule, *rows = processes.splitlines()
    assert [[cell.strip() for cell in row.split("|")[1:3]] for row in rows] == [
        ["1", "1"],
        ["1", "2"],
        ["3", "1"],
        ["3", "2"],
    ]
    assert len(threads.splitlines()) == 17
    assert len(adds.splitlines()) == 7
    assert len(million.splitlines()) == 16


@pytest.mark.timeout(110)
def test_every_row_of_fairness_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "start_process", fork_server.start)
    fairness.main(["--quick"])
    assert len(capsys.readouterr().out.splitlines()) == 15


def test_half_of_each_core_is_used_in_the_arithmetic_of_a_million_conversations() -> None:
    costs = Costs(
        worker_ms=6.0, redis_ms=0.6, first_add_ms=0.1, next_add_ms=0.1,
        batch_bytes=6000, add_bytes=2000, waiting_bytes=3000,
    )  # fmt: skip
    rows = {name: (arithmetic, result) for name, arithmetic, result in needs(costs)}
    assert rows["CPU of workers"] == (
        "16,700 x 6.00 ms = 100 cores",
        "200 cores, a process each",
    )
    assert rows["CPU of Redis, adds"] == (
        "16,700 x (0.100 + 2 x 0.100 ms) = 5.0 cores",
        "with the batches: 30 primaries",
    )
    assert rows["network of Redis"][1] == "7 MB/s a primary"
