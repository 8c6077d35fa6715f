"""The Grafana dashboard in deploy/, as it is written.

`python -m tests.docs.dashboard` writes the file; a test compares it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.docs.language import ROOT

FILE = ROOT / "deploy" / "grafana-dashboard.json"

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_CHOSEN = 'queue=~"$queue"'
"""The queues that are chosen at the top of the dashboard."""
_COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Line:
    """A query of a panel, and the legend of its series."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the dashboard; its size in Grafana's grid of 24 columns."""

    title: str
    description: str
    lines: tuple[Line, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    red_from: float | None = None
    red_below: float | None = None
    stacked: bool = False


def now(name: str, *labels: str, where: str = "") -> str:
    """The value of a gauge: of the queue, so the same for every process that is scraped."""
    return f"max by ({', '.join(('queue', *labels))}) ({_selected(name, where)})"


def rate(name: str, *labels: str, where: str = "") -> str:
    """The increase of a counter in a second."""
    return (
        f"max by ({', '.join(('queue', *labels))}) "
        f"(rate({_selected(name, where)}[$__rate_interval]))"
    )


def quantile(share: float, name: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', 'le')})"


def durations(*names: str) -> tuple[Line, ...]:
    """The median and the 95th percentile of histograms."""
    return tuple(
        Line(
            quantile(share, f"assistant_queue_{name}_seconds"),
            f"{{{{queue}}}} {name.replace('_', ' ')} {word}",
        )
        for name in names
        for share, word in ((0.5, "p50"), (0.95, "p95"))
    )


def _selected(name: str, where: str) -> str:
    labels = ", ".join(part for part in (_CHOSEN, where) if part)
    return f"{name}{{{labels}}}"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel(
            "Redis",
            "1: the metrics could be read.",
            (Line(now("assistant_queue_up"), "{{queue}}"),),
            kind="stat",
            width=3,
            height=4,
            red_below=1,
        ),
        Panel(
            "Workers",
            "Workers that are registered.",
            (Line(now("assistant_queue_workers"), "{{queue}}"),),
            kind="stat",
            width=3,
            height=4,
            red_below=1,
        ),
        Panel(
            "Room",
            "Batches that the workers could take now.",
            (Line(now("assistant_queue_worker_room"), "{{queue}}"),),
            kind="stat",
            width=3,
            height=4,
            red_below=1,
        ),
        Panel(
            "Waiting",
            "Messages that are due, and that no worker has claimed.",
            (Line(now("assistant_queue_messages_in_state", where='state="waiting"'), "{{queue}}"),),
            kind="stat",
            width=3,
            height=4,
        ),
        Panel(
            "Oldest due",
            "Time since the thread that is overdue longest was due.",
            (Line(now("assistant_queue_oldest_due_seconds"), "{{queue}}"),),
            unit="s",
            kind="stat",
            width=3,
            height=4,
            red_from=60,
        ),
        Panel(
            "Failed list",
            "Messages in the failed list.",
            (Line(now("assistant_queue_messages_in_state", where='state="failed"'), "{{queue}}"),),
            kind="stat",
            width=3,
            height=4,
            red_from=1,
        ),
        Panel(
            "Undelivered",
            "Replies in the failed list.",
            (
                Line(
                    now("assistant_queue_replies_in_state", where='state="undelivered"'),
                    "{{queue}}",
                ),
            ),
            kind="stat",
            width=3,
            height=4,
            red_from=1,
        ),
        Panel(
            "Paused",
            "1: nothing is claimed.",
            (Line(now("assistant_queue_paused"), "{{queue}}"),),
            kind="stat",
            width=3,
            height=4,
            red_from=1,
        ),
    ),
    "Messages": (
        Panel(
            "Messages by outcome",
            "Messages in a second, by what became of them.",
            (Line(rate("assistant_queue_messages_total", "outcome"), "{{queue}} {{outcome}}"),),
            unit="cps",
        ),
        Panel(
            "Messages by state",
            "Messages that are not settled.",
            (Line(now("assistant_queue_messages_in_state", "state"), "{{queue}} {{state}}"),),
            stacked=True,
        ),
        Panel(
            "Oldest due",
            "Time since the thread that is overdue longest was due.",
            (Line(now("assistant_queue_oldest_due_seconds"), "{{queue}}"),),
            unit="s",
        ),
        Panel(
            "Batches by outcome",
            "Batches in a second, and the runs that collecting messages saved.",
            (
                Line(rate("assistant_queue_batches_total", "outcome"), "{{queue}} {{outcome}}"),
                Line(rate("assistant_queue_runs_total"), "{{queue}} runs"),
                Line(rate("assistant_queue_runs_saved_total"), "{{queue}} runs saved"),
            ),
            unit="cps",
        ),
        Panel(
            "Threads",
            "Threads that are not idle.",
            (Line(now("assistant_queue_threads"), "{{queue}}"),),
        ),
        Panel(
            "Labels that were cut",
            "Labels with more values than are counted: further ones are `other`.",
            (Line(now("assistant_queue_labels_cut", "label"), "{{queue}} {{label}}"),),
        ),
    ),
    "Time": (
        Panel(
            "End to end",
            "From a batch's first message to the delivery of its reply.",
            durations("end_to_end"),
            unit="s",
        ),
        Panel(
            "Waits before the run",
            "The window, and from its end to the claim.",
            durations("window_wait", "queue_wait"),
            unit="s",
        ),
        Panel("Run", "From the claim to the end of the batch.", durations("run"), unit="s"),
        Panel(
            "First token",
            "From a request to its first text.",
            durations("first_token"),
            unit="s",
            width=12,
        ),
        Panel(
            "Delivery",
            "From the end of a batch to the platform's acceptance.",
            durations("delivery"),
            unit="s",
            width=12,
        ),
    ),
    "Failures": (
        Panel(
            "Errors by code",
            "Attempts in a second that ended with an error.",
            (Line(rate("assistant_queue_attempt_errors_total", "code"), "{{queue}} {{code}}"),),
            unit="cps",
        ),
        Panel(
            "Takeovers",
            "Batches in a second that were claimed from a worker that was over.",
            (Line(rate("assistant_queue_takeovers_total"), "{{queue}}"),),
            unit="cps",
        ),
        Panel(
            "Abandoned calls",
            "Calls of user code in a second that exceeded their time, and those that still run.",
            (
                Line(rate("assistant_queue_abandoned_calls_total"), "{{queue}} in a second"),
                Line(now("assistant_queue_hanging_calls"), "{{queue}} still run"),
            ),
        ),
    ),
    "Tools and tokens": (
        Panel(
            "Tool calls",
            "Calls in a second.",
            (
                Line(
                    rate("assistant_queue_tool_calls_total", "tool", "outcome"),
                    "{{queue}} {{tool}} {{outcome}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            "Duration of tools",
            "The mean of a tool's calls.",
            (
                Line(
                    f"{rate('assistant_queue_tool_seconds_total', 'tool')} / on (queue, tool) "
                    "sum by (queue, tool) "
                    f"({rate('assistant_queue_tool_calls_total', 'tool', 'outcome')})",
                    "{{queue}} {{tool}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            "Calls answered from outside",
            "Tool calls in a second that were to be approved or answered, and how they were.",
            (
                Line(
                    rate("assistant_queue_approvals_total", "outcome"),
                    "{{queue}} {{outcome}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            "Threads that people answer",
            "Threads in a second that a person took over, and that were handed back.",
            (
                Line(
                    rate("assistant_queue_person_takeovers_total", "change"),
                    "{{queue}} {{change}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            "Tokens by model",
            "Tokens in a second; the kinds overlap: the cache's are a part of the input.",
            (
                Line(
                    "sum by (queue, model, kind) "
                    f"({rate('assistant_queue_tokens_total', 'model', 'tenant', 'kind')})",
                    "{{queue}} {{model}} {{kind}}",
                ),
            ),
            unit="cps",
            width=12,
        ),
        Panel(
            "Tokens by tenant",
            "Input and output in a second.",
            (
                Line(
                    "sum by (queue, tenant) ("
                    + rate(
                        "assistant_queue_tokens_total",
                        "model",
                        "tenant",
                        "kind",
                        where='kind=~"input|output"',
                    )
                    + ")",
                    "{{queue}} {{tenant}}",
                ),
            ),
            unit="cps",
            width=12,
        ),
    ),
    "Deliveries and workers": (
        Panel(
            "Deliveries",
            "Tries in a second, by channel.",
            (
                Line(
                    rate("assistant_queue_deliveries_total", "channel", "outcome"),
                    "{{queue}} {{channel}} {{outcome}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            "Replies on their way",
            "Replies that are not delivered yet, and those in the failed list.",
            (Line(now("assistant_queue_replies_in_state", "state"), "{{queue}} {{state}}"),),
        ),
        Panel(
            "Workers and room",
            "Workers, the batches that they take at once, and those that they could take now.",
            (
                Line(now("assistant_queue_workers"), "{{queue}} workers"),
                Line(now("assistant_queue_worker_slots"), "{{queue}} slots"),
                Line(now("assistant_queue_worker_room"), "{{queue}} room"),
            ),
        ),
    ),
}
"""Row -> its panels. Every metric of the table is shown."""


def dashboard() -> dict[str, Any]:
    """Return the dashboard in Grafana's JSON model, as "Import" takes it."""
    return {
        "uid": "assistant-queue",
        "title": "assistant-queue",
        "description": "Messages, times, failures, tokens, deliveries and workers of a queue.",
        "tags": ["assistant-queue"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_source_choice(), _queue_choice()]},
        "panels": _panels(),
    }


def _source_choice() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
    }


def _queue_choice() -> dict[str, Any]:
    query = "label_values(assistant_queue_up, queue)"
    return {
        "name": "queue",
        "label": "Queue",
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "queues"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    top = 0
    for title, panels in ROWS.items():
        row = {"h": 1, "w": _COLUMNS, "x": 0, "y": top}
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": row,
                "panels": [],
            }
        )
        top += 1
        left = 0
        for panel in panels:
            if left + panel.width > _COLUMNS:
                left = 0
                top += panel.height
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            made.append({"id": len(made) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += panels[-1].height
    return made


def _panel(panel: Panel) -> dict[str, Any]:
    custom = {"fillOpacity": 30 if panel.stacked else 10, "showPoints": "never"}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    is_stat = panel.kind == "stat"
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "editorMode": "code",
                "expr": line.expr,
                "legendFormat": line.legend,
                "range": not is_stat,
                "instant": is_stat,
            }
            for place, line in enumerate(panel.lines)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "color": {"mode": "thresholds" if is_stat else "palette-classic"},
                "thresholds": {"mode": "absolute", "steps": _steps(panel)},
                **({} if is_stat else {"custom": custom}),
            },
            "overrides": [],
        },
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background" if panel.red_from or panel.red_below else "value",
            "graphMode": "none",
            "textMode": "auto",
        }
        if is_stat
        else {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _steps(panel: Panel) -> list[dict[str, Any]]:
    if panel.red_below is not None:
        return [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    if panel.red_from is not None:
        return [{"color": "green", "value": None}, {"color": "red", "value": panel.red_from}]
    return [{"color": "blue", "value": None}]


def written() -> str:
    """Return the text of the file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def main() -> None:
    """Write the file."""
    FILE.write_text(written(), encoding="utf-8")


if __name__ == "__main__":
    main()
