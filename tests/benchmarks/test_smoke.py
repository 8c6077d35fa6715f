"""The benchmarks run and print every row; what they measure is not asserted here."""

from __future__ import annotations

import pytest

from tests import fork_server
from tests.benchmarks import bench
from tests.benchmarks.__main__ import LONG, SECTIONS, main

ROWS = {
    "adding": 10, "depth": 4, "memory": 10, "counting": 9, "waiting": 7, "throughput": 10, "holding": 5, "starting": 7, "leases": 2,
    "depth-long": 4, "holding-long": 5, "events": 5, "web": 5, "hanging": 8, "hostile": 15,
    "delivering": 2, "scraping": 2, "scraping-long": 2, "steering": 4, "background": 6, "ops": 11, "approvals": 2,
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
