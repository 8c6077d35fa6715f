"""Deprecated import paths and class names: all aliases of the package, in one table each.

`MODULES` maps a module's old path to its present one. `find_spec` of the finder below serves the
old path with a stand-in module, which resolves each name in the present module when it is used and
warns at the line that used it:

    from assistant_queue.event_models import TextDelta
    # DeprecationWarning: assistant_queue.event_models.TextDelta is deprecated:
    # use assistant_queue.events.TextDelta

`NAMES` maps the old names of classes that were renamed. A module that kept its path resolves them
by `__getattr__ = old_names(__name__)`.

Nothing is imported before an old name is used; names in `assistant_queue.__all__`,
`assistant_queue.jobs.wake` and worker classes given to `rq worker -w` never warn.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Any

_PACKAGE = "assistant_queue"

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "abandoned": "user_code.abandoned",
        "aio": "client.async_queue",
        "arguments": "client.arguments",
        "backends.addresses": "backends.openai.addresses",
        "backends.assistants_calls": "backends.assistants.requests",
        "backends.assistants_direct": "backends.assistants.provider_calls",
        "backends.call_arguments": "backends.openai.call_arguments",
        "backends.call_ids": "backends.openai.call_ids",
        "backends.call_pieces": "backends.chat_completions.call_pieces",
        "backends.chat_calls": "backends.chat_completions.requests",
        "backends.chat_chunks": "backends.chat_completions.chunks",
        "backends.chat_direct": "backends.chat_completions.provider_calls",
        "backends.chat_forms": "backends.chat_completions.message_forms",
        "backends.chat_history": "backends.chat_completions.history",
        "backends.chat_reader": "backends.chat_completions.parser",
        "backends.chat_rounds": "backends.chat_completions.rounds",
        "backends.content": "backends.openai.content",
        "backends.conversation_items": "backends.responses.conversation_items",
        "backends.conversation_log": "backends.responses.conversation_log",
        "backends.conversation_renewal": "backends.openai.conversation_renewal",
        "backends.direct": "backends.provider_calls",
        "backends.empty_answers": "backends.openai.empty_answers",
        "backends.event_lines": "backends.openai.event_lines",
        "backends.event_parser": "backends.openai.event_parser",
        "backends.finish_reasons": "backends.chat_completions.finish_reasons",
        "backends.foreground": "backends.responses.foreground",
        "backends.foreign_calls": "backends.openai.foreign_calls",
        "backends.function_calls": "backends.function.invocation",
        "backends.item_lists": "backends.openai.item_lists",
        "backends.json_bodies": "backends.openai.json_bodies",
        "backends.list_order": "backends.responses.list_order",
        "backends.mending": "backends.responses.repair",
        "backends.message_reader": "backends.openai.message_reader",
        "backends.model_check": "backends.openai.model_check",
        "backends.openai_clients": "backends.openai.clients",
        "backends.openai_errors": "backends.openai.error_mapping",
        "backends.overflow": "backends.openai.overflow",
        "backends.refusals": "backends.openai.refused_fields",
        "backends.remedies": "backends.openai.remedies",
        "backends.response_reader": "backends.responses.parser",
        "backends.responses_calls": "backends.responses.requests",
        "backends.responses_direct": "backends.responses.provider_calls",
        "backends.run_failures": "backends.openai.run_failures",
        "backends.run_reader": "backends.assistants.parser",
        "backends.seeding": "backends.openai.seeding",
        "backends.streams": "backends.openai.streams",
        "backends.thread_log": "backends.assistants.thread_log",
        "backends.thread_runs": "backends.assistants.thread_runs",
        "backends.trouble_fields": "backends.openai.trouble_fields",
        "backends.trouble_reader": "backends.openai.trouble_reader",
        "backends.trouble_words": "backends.openai.trouble_words",
        "backends.unordered_items": "backends.responses.unordered_items",
        "backends.wire_events": "backends.openai.wire_events",
        "backends.wire_json": "backends.openai.wire_json",
        "call_threads": "user_code.call_threads",
        "choices": "config.protocol",
        "cli.control": "cli.manage",
        "cli.demo.app": "cli.demo.demo_bot",
        "cli.demo.provider": "cli.demo.stand_in",
        "cli.demo.redis": "cli.demo.redis_server",
        "cli.demo.workers": "cli.demo.worker_processes",
        "cli.options": "cli.shared_options",
        "cli.problems": "cli.exit_errors",
        "cli.words": "cli.dashed_arguments",
        "core.flow.ending": "core.flow.outcome",
        "core.flow.failing": "core.flow.failure",
        "core.flow.outgrowing": "core.flow.outgrown",
        "core.flow.running": "core.flow.attempt",
        "core.flow.state": "core.flow.context",
        "core.told": "core.delta_tracker",
        "direct": "client.provider_calls",
        "direct_arguments": "client.provider_call_arguments",
        "direct_doors": "client.provider_call_methods",
        "door": "client.commands",
        "event_doors": "client.event_methods",
        "event_models": "events",
        "integrations.fastapi.bodies": "integrations.fastapi.request_bodies",
        "integrations.fastapi.invalid": "integrations.fastapi.invalid_requests",
        "integrations.fastapi.limiting": "integrations.fastapi.rate_limits",
        "integrations.fastapi.messages": "integrations.fastapi.message_routes",
        "integrations.fastapi.operating": "integrations.fastapi.operator_routes",
        "integrations.fastapi.pacing": "integrations.fastapi.frame_limits",
        "integrations.fastapi.process": "integrations.fastapi.process_limits",
        "integrations.fastapi.routing": "integrations.fastapi.guarded_routes",
        "integrations.fastapi.runs": "integrations.fastapi.run_routes",
        "integrations.fastapi.server": "integrations.fastapi.uvicorn_server",
        "integrations.fastapi.streams": "integrations.fastapi.stream_routes",
        "integrations.fastapi.threads": "integrations.fastapi.thread_routes",
        "integrations.fastapi.watching": "integrations.fastapi.reauthorization",
        "judging": "user_code.validator_calls",
        "portal": "client.portal",
        "queue": "client.queue",
        "scrubbing": "user_code.scrubbing",
        "store.ahead": "store.transport.pipelined",
        "store.connect": "store.transport.connect",
        "store.control": "store.ops.control",
        "store.conversations": "store.ops.conversations",
        "store.deliveries": "store.ops.delivery_marks",
        "store.ending": "store.ops.outcomes",
        "store.events": "store.ops.event_log",
        "store.examining": "store.ops.server_info",
        "store.failures": "store.ops.failures",
        "store.gathering": "store.transport.auto_pipeline",
        "store.health": "store.ops.health",
        "store.holding": "store.ops.leases",
        "store.lane": "store.transport.pinned",
        "store.packing": "store.message_codec",
        "store.producing": "store.ops.producing",
        "store.refusals": "store.transport.refusals",
        "store.replicating": "store.ops.replication",
        "store.stores": "store.transport.stores",
        "store.sweeping": "store.ops.sweeping",
        "testing.chaos.app": "testing.chaos.chaos_bot",
        "testing.chaos.faults": "testing.chaos.fault_plans",
        "testing.chaos.redis": "testing.chaos.redis_process",
        "testing.clock": "testing.fake_clock",
        "testing.provider.app": "testing.provider.asgi",
        "testing.provider.context": "testing.provider.app_context",
        "testing.provider.oracle": "testing.provider.invariants",
        "testing.provider.problems": "testing.provider.api_errors",
        "user_errors": "user_code.error_text",
        "validation": "validators",
        "worker.app": "worker.app_loader",
        "worker.checking_in": "worker.startup_checks",
        "worker.deliveries": "worker.abandoned_deliveries",
        "worker.listeners": "worker.result_listeners",
        "worker.loop": "worker.event_loop",
        "worker.parents": "worker.parent_process",
        "worker.room": "worker.capacity",
        "worker.rq_concurrent": "worker.rq_concurrent_worker",
        "worker.rq_worker": "worker.rq_forking_worker",
        "worker.running": "worker.process",
        "worker.spoken": "worker.visible_text",
        "worker.taking": "worker.fetcher",
        "worker.talk": "worker.provider_session",
        "worker.telling": "worker.delta_publisher",
        "worker.turns": "worker.start_pacer",
        "worker.user_code": "user_code.caller",
        "worker.watchman": "worker.scheduler",
    }
)
"""Old module paths and present ones, below `assistant_queue`."""

NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "backends.assistants": {
            "AssistantsBackend": "backends.assistants.backend.AssistantsBackend"
        },
        "backends.base": {
            "RunStarted": "backends.base.RunAccepted",
            "TextDelta": "backends.base.TextChunk",
        },
        "backends.chat_completions": {
            "ChatCompletionsBackend": "backends.chat_completions.backend.ChatCompletionsBackend"
        },
        "backends.function": {
            name: f"backends.function.backend.{name}"
            for name in ("FunctionBackend", "RunContext", "Said")
        },
        "backends.responses": {"ResponsesBackend": "backends.responses.backend.ResponsesBackend"},
        "config": {"BackoffOptions": "config.options.BackoffOptions"},
        "events": {"MessageCancelled": "events.MessageWithdrawn"},
        "testing.chaos": {
            "Event": "testing.chaos.PlannedFault",
            "Settings": "testing.chaos.ChaosSettings",
        },
    }
)
"""Old names of renamed or moved classes by the present path of their module, and the present names.

Both are below `assistant_queue`.
"""


def old_names(module: str) -> Callable[[str], Any]:
    """Return a module's `__getattr__`, which resolves the old names in `NAMES`."""
    names = NAMES[module.removeprefix(f"{_PACKAGE}.")]

    def resolve(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return _resolve(f"{module}.{name}", *f"{_PACKAGE}.{names[name]}".rsplit(".", 1))

    return resolve


class _Finder:
    """Find modules at their old paths; the last finder, asked only when all others failed."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a stand-in module, None if the path was never one of this package."""
        del path, target
        package, _, module = fullname.partition(".")
        if package != _PACKAGE or module not in MODULES:
            return None
        return ModuleSpec(fullname, _Loader(), origin=f"{_PACKAGE}.{MODULES[module]}")


class _Loader(Loader):
    """Load a stand-in module."""

    def create_module(self, _spec: ModuleSpec) -> None:
        """Leave it to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Resolve the module's names in the present module, when they are used."""
        old = module.__name__
        new = f"{_PACKAGE}.{MODULES[old.partition('.')[2]]}"
        names = NAMES.get(new.partition(".")[2], {})

        def resolve(name: str) -> Any:
            if name.startswith("__") and name != "__all__":
                raise AttributeError(f"module {old!r} has no attribute {name!r}")
            if name in names:
                return _resolve(f"{old}.{name}", *f"{_PACKAGE}.{names[name]}".rsplit(".", 1))
            return _resolve(f"{old}.{name}", new, name)

        vars(module)["__getattr__"] = resolve
        vars(module)["__doc__"] = f"Deprecated: use {new}."


def _resolve(old: str, module: str, name: str) -> Any:
    """Return a name of a present module; warn at the caller of `__getattr__`."""
    found = getattr(importlib.import_module(module), name)
    root = sys.modules[_PACKAGE]
    public = name in root.__all__ and getattr(root, name) is found
    new = f"{_PACKAGE}.{name}" if public else f"{module}.{name}"
    warnings.warn(f"{old} is deprecated: use {new}", DeprecationWarning, stacklevel=3)
    return found


def install() -> None:
    """Serve old module paths in this process. Idempotent."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
