"""The dashboard, the alert rules and the scrape example in deploy/ fit the metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from assistant_queue.integrations.prometheus.families import FAMILIES, QUEUE, Family
from tests.conftest import PATIENCE_S
from tests.docs import dashboard
from tests.docs.generated import ROOT
from tests.docs.test_facts import anchors
from tests.docs.test_production import check_command

DEPLOY = ROOT / "deploy"
UNIT_TESTS = ROOT / "tests" / "fixtures" / "alerts_test.yaml"
TABLE = {family.name: family for family in FAMILIES}
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: it is in Debian's package prometheus",
)


@dataclass(frozen=True)
class Query:
    """An expression, and the labels that a text beside it shows."""

    place: str
    expr: str
    shown: frozenset[str]


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load((DEPLOY / "alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    for panel in panels():
        for target in panel["targets"]:
            shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
            yield Query(f"panel {panel['title']}", target["expr"], frozenset(shown))
    for rule in rules():
        shown = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
        yield Query(f"alert {rule['alert']}", rule["expr"], frozenset(shown))


QUERIES = list(queries())


def family_of(name: str) -> Family | None:
    """The family of a name in a query: a histogram is queried by its parts."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    found = TABLE.get(base if base in TABLE and TABLE[base].kind == "histogram" else name)
    return None if found is not None and found.kind == "histogram" and base == name else found


def labels_of(family: Family) -> set[str]:
    return {QUEUE, *family.labels, *(["le"] if family.kind == "histogram" else [])}


def faults(expr: str, shown: frozenset[str] = frozenset()) -> list[str]:
    """Names, labels and values in an expression that no metric has."""
    found: list[str] = []
    has: set[str] = set()
    for name, chosen in re.findall(r"(assistant_queue_\w+)(?:\{([^}]*)\})?", expr):
        family = family_of(name)
        if family is None:
            found.append(name)
            continue
        has |= labels_of(family)
        for label, sign, value in re.findall(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"", chosen):
            known = family.known.get(label)
            values = value.split("|") if "~" in sign else [value]
            if label not in labels_of(family):
                found.append(label)
            elif known is not None:
                found += [one for one in values if one not in known]
    kept: set[str] = set()
    for names in re.findall(r"(?:by|on|group_left|without)\s*\(([^)]*)\)", expr):
        kept |= {name.strip() for name in names.split(",") if name.strip()}
    return [*found, *sorted(kept - has), *sorted(shown - kept)]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_an_expression_uses_metrics_labels_and_values_that_exist(query: Query) -> None:
    assert faults(query.expr, query.shown) == []


@pytest.mark.parametrize(
    ("expr", "wrong"),
    [
        ("max by (queue) (assistant_queue_wokers)", ["assistant_queue_wokers", "queue"]),
        ("max by (model) (assistant_queue_workers)", ["model"]),
        ('assistant_queue_messages_total{state="failed"}', ["state"]),
        ('assistant_queue_messages_total{outcome=~"failed|lost"}', ["lost"]),
        ("rate(assistant_queue_run_seconds[5m])", ["assistant_queue_run_seconds"]),
        ("assistant_queue_runs_bucket", ["assistant_queue_runs_bucket"]),
        ("sum by (le) (rate(assistant_queue_run_seconds_bucket[5m]))", []),
    ],
)
def test_a_query_of_what_there_is_not_is_found(expr: str, wrong: list[str]) -> None:
    assert faults(expr) == wrong


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_a_queue_that_several_processes_report_counts_once(query: Query) -> None:
    """Each metric is reduced by `max by`: `sum` alone would add the reports of each process."""
    for name in re.findall(r"assistant_queue_\w+", query.expr):
        before = query.expr.split(name)[0]
        assert before.endswith("absent(") or re.search(
            r"max by \([\w, ]+\)\s*\((?:\w+\()?$", before
        ), query.expr


def test_the_dashboard_shows_every_metric() -> None:
    text = " ".join(query.expr for query in QUERIES if query.place.startswith("panel"))
    assert [name for name in TABLE if not re.search(rf"\b{name}(_bucket)?\b", text)] == []


def test_the_dashboard_is_the_one_that_is_written_here() -> None:
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.written(), (
        "run: python -m tests.docs.dashboard"
    )


def test_the_dashboard_can_be_imported() -> None:
    """Grafana itself is not asked: these are the parts of its JSON model that an import needs."""
    found = dashboard.dashboard()
    assert found["schemaVersion"] >= 36
    assert "id" not in found, "Grafana gives it"
    names = {one["name"] for one in found["templating"]["list"]}
    assert names == {"datasource", "queue"}
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        for target in panel["targets"]:
            assert 'queue=~"$queue"' in target["expr"]


def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert document == "docs/troubleshooting.md"
        assert anchor in anchors(page), rule["alert"]


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for group in yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))["tests"]:
        for test in group["alert_rule_test"]:
            (fires if test["exp_alerts"] else silent).add(test["alertname"])
    assert fires == silent == {rule["alert"] for rule in rules()}


@promtool
def test_promtool_accepts_the_rules_and_their_tests_pass() -> None:
    run_promtool("check", "rules", str(DEPLOY / "alerts.yaml"))
    run_promtool("test", "rules", str(UNIT_TESTS))


@promtool
def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    expressions = [query.expr for query in QUERIES if query.place.startswith("panel")]
    made = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(expressions)
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}))
    assert f"{len(made)} rules found" in run_promtool("check", "rules", str(path))


@promtool
def test_promtool_accepts_the_scrape_example() -> None:
    run_promtool("check", "config", "--syntax-only", str(DEPLOY / "prometheus.yaml"))


def test_the_scrape_example_names_commands_and_files_that_exist() -> None:
    text = (DEPLOY / "prometheus.yaml").read_text(encoding="utf-8")
    commands = re.findall(r"# (assistant-queue .*)", text)
    assert len(commands) == 2
    ports = [check_command(line.split()).get("--metrics-port") for line in commands]
    assert f":{ports[0]}" in text
    for name in yaml.safe_load(text)["rule_files"]:
        assert (DEPLOY / name).exists()


def run_promtool(*words: str) -> str:
    done = subprocess.run(
        ["promtool", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
