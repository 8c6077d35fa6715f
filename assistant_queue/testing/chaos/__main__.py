"""`python -m assistant_queue.testing.chaos`: inject faults, then judge the outcome.

Exit code 0 if every message was answered once, in order, one run at a time; else 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from assistant_queue.testing.chaos.plan import ChaosSettings, make_plan
from assistant_queue.testing.chaos.redis_process import RedisMissing
from assistant_queue.testing.chaos.runner import run
from assistant_queue.testing.chaos.table import table

MISUSE = 2
PROTOCOLS = {"responses": "responses", "assistants": "assistants", "chat": "chat_completions"}
"""Names on the command line, and in the options of a queue."""
_SHOCKS = {
    "stall": "moments in which Redis stands still",
    "crowd": "moments in which Redis takes hardly any connection",
    "starve": "moments in which a worker gets no more memory",
    "truncate": "crashes of Redis that cost the last second",
    "fail-over": "losses of the primary; a Sentinel promotes its replica",
    "bulk": "producers killed in the middle of add_messages",
    "clock": "settings of the store's clock, an hour back each",
    "said": "replies of say(), half of them after a message that wants no reply",
    "takeover": "takeovers of a thread by a person, that answers it for a while",
    "platform": "faults of chat platforms, to which all replies are delivered then",
}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _conflict_in(settings: ChaosSettings) -> str | None:
    """Return why these settings do not go together; None if they do."""
    if settings.workers < 1:
        return "--workers must be 1 or more"
    if settings.fail_over_every and (
        settings.stall_every or settings.crowd_every or settings.truncate_every
    ):
        return (
            "--fail-over-every has its own Redis: "
            "not with --stall-every, --crowd-every or --truncate-every"
        )
    if settings.durability == "replicated" and not settings.fail_over_every:
        return "--durability replicated needs a replica: give --fail-over-every as well"
    if settings.approvals and settings.steering:
        return "--approvals needs calls that end: not with --steering"
    if settings.background and settings.protocol == "chat_completions":
        return "--background needs a provider that works alone: not with --protocol chat"
    if settings.platform_every and settings.protocol == "chat_completions":
        return "--platform-every has its own deliveries: not with --protocol chat, which has others"
    if settings.said_every and (
        settings.protocol == "chat_completions"
        or settings.truncate_every
        or settings.fail_over_every
    ):
        return (
            "--said-every has a judge of its own: not with --protocol chat, --truncate-every or "
            "--fail-over-every"
        )
    if settings.takeover_every and (
        settings.steering
        or settings.said_every
        or settings.platform_every
        or settings.clock_every
        or settings.truncate_every
        or settings.fail_over_every
        or settings.audit
    ):
        return (
            "--takeover-every has a judge of its own: not with --steering, "
            "--said-every, --platform-every, --clock-every, --audit, --truncate-every or "
            "--fail-over-every"
        )
    if settings.steering and (
        settings.said_every
        or settings.platform_every
        or settings.truncate_every
        or settings.fail_over_every
    ):
        return (
            "--steering has a judge of its own: not with --said-every, --platform-every, "
            "--truncate-every or --fail-over-every"
        )
    return None


def main() -> int:
    """Read the options, run, print the table."""
    default = ChaosSettings()
    parser = argparse.ArgumentParser(
        prog="assistant_queue.testing.chaos", description="Break everything for a while, and count."
    )
    parser.add_argument(
        "--seconds", type=float, default=default.seconds, help="how long things go wrong"
    )
    parser.add_argument(
        "--seed", type=int, default=default.seed, help="the same seed is the same plan"
    )
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default=default.protocol)
    parser.add_argument(
        "--workers", type=int, default=default.workers, help="processes; every second one forks"
    )
    parser.add_argument(
        "--kill-every",
        type=float,
        default=default.kill_every,
        help="seconds between blows at workers; 0: none",
    )
    parser.add_argument(
        "--restart-every",
        type=float,
        default=default.restart_every,
        help="seconds between restarts of Redis; 0: none",
    )
    parser.add_argument(
        "--fault-every",
        type=float,
        default=default.fault_every,
        help="seconds between faults of the provider; 0: none",
    )
    parser.add_argument(
        "--burst-every",
        type=float,
        default=default.burst_every,
        help="seconds between bursts of messages",
    )
    for name, what in _SHOCKS.items():
        parser.add_argument(
            f"--{name}-every",
            type=float,
            default=0.0,
            metavar="SECONDS",
            help=f"seconds between {what}; 0: none",
        )
    parser.add_argument(
        "--windows",
        action="store_true",
        help="adaptive windows, batches bounded in characters, and flushes",
    )
    parser.add_argument(
        "--audit",
        default=default.audit,
        metavar="URL",
        help="keep an audit in this database, and judge it; the word sqlite for a file of the run",
    )
    parser.add_argument(
        "--steering",
        action="store_true",
        help="stop, interrupt and steer answers, edit and remove messages of them",
    )
    parser.add_argument(
        "--approvals",
        action="store_true",
        help="have the function wait for an approval, and settle the calls",
    )
    parser.add_argument(
        "--background", action="store_true", help="leave runs to the provider, and poll them"
    )
    parser.add_argument(
        "--max-jobs",
        type=int,
        default=default.max_jobs,
        help="jobs after which `rq worker` ends; 0: it does not",
    )
    parser.add_argument(
        "--run-timeout",
        type=float,
        default=default.run_timeout,
        help="seconds; how long a worker that hangs keeps its threads",
    )
    parser.add_argument("--durability", choices=["local", "replicated"], default=default.durability)
    parser.add_argument(
        "--redis",
        metavar="PROGRAM",
        help="a redis-server; else the one on the PATH, or of an installed wheel",
    )
    parser.add_argument(
        "--logs",
        type=Path,
        metavar="DIRECTORY",
        help="keep what Redis and the workers say, and Redis' data",
    )
    parser.add_argument(
        "--plan", action="store_true", help="print the plan, one JSON line an event, and do nothing"
    )
    given = parser.parse_args()
    names = {field.name for field in dataclasses.fields(ChaosSettings)}
    given.protocol = PROTOCOLS[given.protocol]
    settings = ChaosSettings(
        **{name: value for name, value in vars(given).items() if name in names}
    )
    conflict = _conflict_in(settings)
    if conflict is not None:
        parser.error(conflict)
    if given.plan:
        for event in make_plan(settings):
            _say(json.dumps(dataclasses.asdict(event)))
        return 0
    try:
        outcome = run(settings, redis_program=given.redis, logs=given.logs, say=_say)
    except RedisMissing as error:
        sys.stderr.write(f"error: {error}\n")
        return MISUSE
    _say(table(outcome))
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
