"""Spans of worker processes in a file, one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.opentelemetry import instrument

NEVER_MS = 3_600_000


class FileExporter(SpanExporter):
    def __init__(self, path: str) -> None:
        self.path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = "".join(json.dumps(plain(span)) + "\n" for span in spans)
        with Path(self.path).open("a") as file:
            file.write(lines)
        return SpanExportResult.SUCCESS


def plain(span: ReadableSpan) -> dict[str, Any]:
    return {
        "name": span.name,
        "trace": span.context.trace_id,
        "links": [link.context.trace_id for link in span.links],
        "attributes": dict(span.attributes or {}),
        "pid": os.getpid(),
        "scope": span.instrumentation_scope.name if span.instrumentation_scope else "",
    }


def instrument_into(queue: AssistantMessageQueue, path: str, *, in_worker: bool) -> None:
    """Export only when the worker flushes: what a process forgets to export is lost.

    In a worker's process another instrumentation observes the client of the provider, if there is
    one.
    """
    provider = TracerProvider()
    provider.add_span_processor(
        BatchSpanProcessor(FileExporter(path), schedule_delay_millis=NEVER_MS)
    )
    instrument(queue, tracer_provider=provider)
    if in_worker:
        with suppress(ImportError):
            from openinference.instrumentation.openai import OpenAIInstrumentor

            OpenAIInstrumentor().instrument(tracer_provider=provider)


def read_spans(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
