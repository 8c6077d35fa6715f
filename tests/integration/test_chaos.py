"""The chaos runner for a moment, and its judge before builds that lack a safeguard."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import Personality, StandInProvider
from assistant_queue.testing.chaos import ChaosSettings, Sent, Verdict, judge, make_plan, run
from assistant_queue.testing.chaos.fault_plans import Model
from assistant_queue.testing.chaos.plan import TOOL_WORD, Kind, PlannedFault
from assistant_queue.testing.chaos.table import table
from assistant_queue.testing.provider import delay, never_answer
from tests import fork_server
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import BIN, HERE, Service, wait_until

# --- a moment of chaos ----------------------------------------------------------------------------


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_a_moment_of_chaos_loses_and_doubles_nothing(
    protocol: str, one_redis: RedisServer, tmp_path: Path
) -> None:
    settings = ChaosSettings(
        seconds=8,
        seed=7,
        protocol=protocol,
        workers=2,
        kill_every=2,
        restart_every=4,
        platform_every=1.0,
        said_every=0.6,
        audit="sqlite",
        threads=16,
        drain=60,
    )
    outcome = run(settings, redis_program=one_redis.program, logs=tmp_path)
    assert outcome.holds, table(outcome)
    assert outcome.verdict.sent > 50
    assert outcome.said is not None
    assert outcome.shown is not None
    assert outcome.said.said == outcome.shown.replies > 10, table(outcome)
    assert outcome.deliveries is not None
    assert outcome.deliveries.replies > 20, table(outcome)
    assert outcome.feed is not None
    assert outcome.feed.events > 2 * outcome.verdict.sent, table(outcome)
    assert outcome.feed.gaps == 0, table(outcome)
    assert outcome.counted is not None
    assert outcome.counted.counted["answered"] == outcome.verdict.sent, table(outcome)
    assert outcome.audit is not None
    assert outcome.audit.rows >= outcome.verdict.sent + outcome.said.said, table(outcome)
    assert outcome.journals is not None
    assert (outcome.journals.dated > outcome.verdict.sent) is (protocol == "responses")
    assert outcome.done["platform"] >= 3, table(outcome)
    assert outcome.done["kill"] + outcome.done["stop"] >= 2, table(outcome)
    assert outcome.done["restart"] >= 1
    assert outcome.done["fault"] >= 10


def test_a_moment_of_chaos_over_chat_completions_stores_and_delivers_each_reply_once(
    one_redis: RedisServer, tmp_path: Path
) -> None:
    settings = ChaosSettings(
        seconds=5,
        seed=9,
        protocol="chat_completions",
        workers=2,
        kill_every=1.5,
        restart_every=3,
        threads=8,
        drain=120,
    )
    plan = make_plan(settings)
    assert {event.kind for event in plan} == {"say", "fault", "kill", "stop", "restart"}
    outcome = run(settings, redis_program=one_redis.program, logs=tmp_path)
    assert outcome.holds, table(outcome)
    assert outcome.verdict.sent == sum(event.kind == "say" for event in plan)
    assert outcome.done["restart"] >= 1
    assert outcome.done["fault"] >= 3


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("protocol", ["responses", "assistants", "chat_completions"])
def test_a_moment_of_stops_and_interrupts_answers_or_cancels_each_message_once(
    protocol: str, one_redis: RedisServer, tmp_path: Path
) -> None:
    settings = ChaosSettings(
        seconds=4.5,
        seed=5,
        protocol=protocol,
        workers=2,
        kill_every=1.5,
        restart_every=3,
        steering=True,
        audit="sqlite" if protocol == "responses" else "",
        threads=8,
        drain=120,
    )
    outcome = run(settings, redis_program=one_redis.program, logs=tmp_path)
    assert outcome.holds, table(outcome)
    assert outcome.steering is not None
    assert outcome.steering.answered > 5, table(outcome)
    assert outcome.steering.answered + outcome.steering.cancelled == outcome.verdict.sent
    if settings.audit:
        assert outcome.audit is not None
        assert outcome.audit.rows >= outcome.steering.answered, table(outcome)


@pytest.mark.usefixtures("forked_workers")
def test_a_moment_of_takeovers_answers_each_message_by_the_person_or_by_a_run(
    one_redis: RedisServer, tmp_path: Path
) -> None:
    settings = ChaosSettings(
        seconds=5,
        seed=5,
        protocol="assistants",
        workers=2,
        kill_every=2,
        restart_every=4,
        takeover_every=0.3,
        threads=8,
        drain=120,
    )
    outcome = run(settings, redis_program=one_redis.program, logs=tmp_path)
    assert outcome.holds, table(outcome)
    assert outcome.takeovers is not None
    assert outcome.takeovers.by_person > 3, table(outcome)
    assert outcome.takeovers.by_model > 3, table(outcome)


def test_a_plan_with_takeovers_leaves_the_rest_as_it_was() -> None:
    plain, more = make_plan(ChaosSettings()), make_plan(ChaosSettings(takeover_every=0.5))
    assert [event for event in more if event in plain] == plain
    added = [event for event in more if event not in plain]
    kinds = Counter(event.kind for event in added)
    assert kinds.keys() == {"say", "tell", "take_over", "refuse", "hand_back", "fault"}
    assert kinds["take_over"] > kinds["hand_back"] > 30, "some take over from another person"
    assert {event.slot for event in added if event.kind == "take_over"} == {0, 1}
    last = {event.thread: event.kind for event in added if event.kind != "say" and event.thread}
    assert set(last.values()) == {"hand_back"}


def test_a_plan_with_stops_and_interrupts_leaves_the_rest_as_it_was() -> None:
    plain, more = make_plan(ChaosSettings()), make_plan(ChaosSettings(steering=True))
    assert [event for event in more if event in plain] == plain
    kinds = {event.kind for event in more if event not in plain}
    assert kinds == {"halt", "interrupt", "steer", "edit", "remove", "fault"}


def test_the_seed_is_the_plan() -> None:
    first, again, other = (
        make_plan(ChaosSettings(seed=3)),
        make_plan(ChaosSettings(seed=3)),
        make_plan(ChaosSettings(seed=4)),
    )
    assert first == again
    assert first != other
    assert {event.kind for event in first} == {"say", "fault", "kill", "stop", "restart"}
    assert len({event.text for event in first if event.kind == "say"}) == sum(
        event.kind == "say" for event in first
    )


def test_what_else_goes_wrong_leaves_the_rest_of_a_plan_as_it_was() -> None:
    shocks = {
        f"{name}_every": 5.0
        for name in ("stall", "crowd", "starve", "truncate", "fail_over", "bulk", "clock")
    }
    plain, more = make_plan(ChaosSettings()), make_plan(ChaosSettings(**shocks))  # type: ignore[arg-type]
    assert [event for event in more if event in plain] == plain
    kinds = {event.kind for event in more} - {event.kind for event in plain}
    assert kinds == {
        "stall",
        "crowd",
        "starve",
        "truncate",
        "fail_over",
        "add_bulk",
        "set_clock_back",
    }
    assert {event.text for event in more if event.kind == "fail_over"} == {
        "killed",
        "stopped",
        "asked",
    }


def test_a_plan_with_texts_that_are_said_leaves_the_rest_as_it_was() -> None:
    plain, more = make_plan(ChaosSettings()), make_plan(ChaosSettings(said_every=0.5))
    assert [event for event in more if event in plain] == plain
    added = [event for event in more if event not in plain]
    told = [event for event in added if event.kind == "tell"]
    notes = [event for event in added if event.kind == "note"]
    assert len(told) > 2 * len(notes) * 0.6 > 20
    last = {event.thread: event.kind for event in added if event.thread}
    assert set(last.values()) == {"say"}
    assert {event.text.split(":")[0] for event in added if event.kind == "fault"} == {
        "items.create"
    }


def test_a_plan_with_chat_platforms_has_their_threads_and_everything_else_as_it_was() -> None:
    plain, more = make_plan(ChaosSettings()), make_plan(ChaosSettings(platform_every=2.0))
    faults = {event.text for event in more if event.kind == "platform"}
    assert len(faults) > 8
    assert {text.partition(": ")[0] for text in faults} == {"telegram", "webhook"}
    others = [event for event in more if event.kind != "platform"]
    assert [(event.at, event.kind) for event in others] == [
        (event.at, event.kind) for event in plain
    ]
    threads = {event.thread.partition(":")[0] for event in others if event.kind == "say"}
    assert threads == {"telegram", "webhook"}


def test_the_command_prints_its_plan_and_refuses_nonsense() -> None:
    command = [sys.executable, "-m", "assistant_queue.testing.chaos"]
    shown = subprocess.run(
        [*command, "--plan", "--seconds", "5", "--seed", "3"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line)["at"] for line in shown.stdout.splitlines()] == [
        event.at for event in make_plan(ChaosSettings(seconds=5, seed=3))
    ]
    for nonsense in (
        "--workers 0",
        "--durability replicated",
        "--fail-over-every 5 --stall-every 5",
        "--platform-every 5 --protocol chat",
        "--takeover-every 5 --steering",
    ):
        assert (
            subprocess.run(
                [*command, *nonsense.split()], capture_output=True, check=False
            ).returncode
            == 2
        ), nonsense


# --- the judge is not fooled: each safeguard is taken out, and what it is for happens -------------


class Broken(Service):
    """Worker processes of a build that lacks a safeguard, at a provider that prevents no overlap."""

    without = ""

    def start_worker(self) -> None:
        app = {"ASSISTANT_QUEUE_APP": "tests.integration.broken_bot:queue", "WITHOUT": self.without}
        with self.log.open("ab") as log:
            process = fork_server.start(
                [BIN / "assistant-queue", "worker"],
                env={**os.environ, **app, "PYTHONPATH": str(HERE.parent.parent)},
                stdout=log,
            )
        self.processes.append(process)

    def signal(self, number: signal.Signals) -> None:
        """To the first worker."""
        self.processes[0].send_signal(number)

    def send(self) -> str:
        assert self.queue is not None
        return self.queue.add_message_to_thread("t", "once, please", message_id="m").message_id

    def wait(self, message_id: str) -> None:
        assert self.queue is not None
        self.queue.wait_for_reply(message_id, PATIENCE_S)

    def verdict(self, model: Model) -> Verdict:
        assert self.queue is not None
        runs = self.provider.runs
        held = {
            place: self.provider.user_texts(place)
            for place in {run.conversation_id for run in runs}
            if place
        }
        failed = {
            message_id: batch.reason
            for batch in self.queue.list_failed()
            for message_id in batch.message_ids
        }
        sent = [Sent("m", "t", "once, please", 0.0)]
        return judge(
            sent, runs, held, replied=model.replied, failed=failed, overlaps=self.provider.overlaps
        )


@pytest.fixture
def model() -> Model:
    return Model(TOOL_WORD, longest_s=0.1)


@pytest.fixture
def service(one_redis: RedisServer, prefix: str, model: Model, tmp_path: Path) -> Iterator[Broken]:
    with StandInProvider(model, personality=Personality(lock="none")) as provider:
        made = Broken("process", one_redis.url, prefix, provider, tmp_path / "workers.log")
        yield made
        for process in made.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        made.stop()


def stopped_before_it_sends(service: Broken) -> None:
    """A worker stands still until another has answered its thread; then it continues."""
    service.start(lock_duration=1.0, request_timeout=20.0)
    service.provider.fault("conversations.create", delay(before=0.5))
    sent = service.send()
    service.provider.wait_for(
        lambda oracle: oracle.calls("conversations.create"), timeout=PATIENCE_S
    )
    service.signal(signal.SIGSTOP)
    service.start_worker()
    service.wait(sent)
    service.signal(signal.SIGCONT)
    if service.without:
        service.provider.wait_for(runs_ended=2, timeout=PATIENCE_S)
    else:
        wait_until(
            lambda: re.search("[Tt]he lease .*another worker", service.log.read_text()),
            "the first one sees that it is too late",
        )


def killed_in_a_run(service: Broken) -> None:
    """A worker dies while its run continues; another finds the batch."""
    queue: AssistantMessageQueue = service.start(lock_duration=1.0)
    gate = service.provider.hold()
    sent = service.send()
    gate.wait_reached(timeout=PATIENCE_S)
    wait_until(lambda: queue.get_thread_status("t").run_id, "the run's id is stored")
    service.signal(signal.SIGKILL)
    service.start_worker()
    if service.without:
        service.provider.wait_for(runs_started=2, timeout=PATIENCE_S)
    else:
        service.provider.wait_for(
            lambda oracle: oracle.calls("responses.retrieve"), timeout=PATIENCE_S
        )
    gate.release()
    service.wait(sent)
    if service.without:
        service.provider.wait_for(runs_ended=2, timeout=PATIENCE_S)


def accepted_without_an_answer(service: Broken) -> None:
    """The provider takes a batch, says nothing, and is still at it when the client gives up."""
    queue: AssistantMessageQueue = service.start(lock_duration=3.0, request_timeout=1.0)
    service.provider.fault("responses.create", never_answer())
    gate = service.provider.hold()
    sent = service.send()
    gate.wait_reached(timeout=PATIENCE_S)
    if service.without:
        service.provider.wait_for(runs_started=2, timeout=PATIENCE_S)
    else:
        wait_until(lambda: queue.get_thread_status("t").state == "held", "the thread is held")
    gate.release()
    service.wait(sent)
    if service.without:
        service.provider.wait_for(runs_ended=2, timeout=PATIENCE_S)


SCENARIOS: dict[str, Callable[[Broken], None]] = {
    "lease": stopped_before_it_sends,
    "freeze": killed_in_a_run,
    "grace": accepted_without_an_answer,
}


@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
@pytest.mark.parametrize("safeguard", sorted(SCENARIOS))
def test_without_a_safeguard_the_judge_sees_what_it_is_for(
    safeguard: str, is_broken: bool, service: Broken, model: Model
) -> None:
    service.without = safeguard if is_broken else ""
    SCENARIOS[safeguard](service)
    verdict = service.verdict(model)
    assert verdict.holds is not is_broken, verdict
    assert verdict.doubled == is_broken, verdict


# --- the same, by the runner itself ---------------------------------------------------------------


def says(seconds: float, each_s: float) -> Iterator[PlannedFault]:
    """A message to another thread each time: its conversation is made, then its run is started."""
    for number in range(int(seconds / each_s)):
        yield PlannedFault(
            at=round(number * each_s, 3),
            kind="say",
            thread=f"t{number}",
            message_id=f"t{number}.1",
            text=f"t{number} says 1",
        )


def blows(
    kind: Kind, slots: Sequence[int], each_s: float, lasts_s: float = 0.0
) -> Iterator[PlannedFault]:
    for number, slot in enumerate(slots):
        yield PlannedFault(
            at=round((number + 0.5) * each_s, 3), kind=kind, slot=slot, whom="both", seconds=lasts_s
        )


def faults(text: str, seconds: float, each_s: float) -> Iterator[PlannedFault]:
    for number in range(int(seconds / each_s)):
        yield PlannedFault(at=round(number * each_s, 3), kind="fault", text=text)


PLANS: dict[str, list[PlannedFault]] = {
    # Many threads are between the claim and the request when a concurrent worker stands still for
    # longer than its lease; another continues.
    "lease": [
        *says(8, 0.1),
        *faults("conversations.create: slow", 8, 0.1),
        *blows("stop", [0, 2], 4.0, lasts_s=4.5),
    ],
    # A batch that was being answered by a worker that dies is gathered anew.
    "freeze": [*says(8, 0.05), *blows("kill", [0, 1, 0, 1], 1.5)],
    # The provider takes a batch and says nothing, or something else.
    "grace": [
        *says(5, 0.1),
        *faults("responses.create: works, drops", 3.6, 0.3),
    ],
}


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("safeguard", sorted(PLANS))
def test_the_runner_goes_red_for_a_build_without_a_safeguard(
    safeguard: str, one_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WITHOUT", safeguard)
    # A stopped worker continues where it was, instead of finding that its request took too long.
    patience = 20.0 if safeguard == "lease" else 4.0
    settings = ChaosSettings(
        seconds=2,
        workers=3,
        lease=1.5,
        request_timeout=patience,
        drain=20 if safeguard == "freeze" else 60,  # counted twice, a batch never leaves the counts
        app="tests.integration.broken_chaos:queue",
    )
    outcome = run(
        settings,
        plan=sorted(PLANS[safeguard], key=lambda event: event.at),
        redis_program=one_redis.program,
        logs=tmp_path,
    )
    assert not outcome.holds, table(outcome)
    assert outcome.verdict.doubled, table(outcome)
    assert outcome.verdict.lost == 0, table(outcome)


def test_the_runner_goes_red_for_a_build_that_does_not_ask_what_a_stop_has_left(
    one_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WITHOUT", "asking")
    settings = ChaosSettings(
        seconds=4,
        workers=1,
        request_timeout=2.0,
        steering=True,
        drain=60,
        app="tests.integration.broken_chaos:queue",
    )
    plan = [
        *faults("responses.create: slow", 1, 0.1),
        *faults("items.create: works, drops", 1, 0.1),
        *says(1, 0.1),
        *(
            PlannedFault(at=1.0 + 0.3 * again, kind="halt", thread=f"t{number}")
            for number in range(10)
            for again in range(5)
        ),
    ]
    plan.sort(key=lambda event: event.at)
    outcome = run(settings, plan=plan, redis_program=one_redis.program, logs=tmp_path)
    assert not outcome.holds, table(outcome)
    assert outcome.steering is not None
    assert any("in its conversation 2 times" in one for one in outcome.steering.details)


def test_the_runner_goes_red_for_a_build_that_does_not_ask_what_was_written(
    one_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WITHOUT", "asking")
    settings = ChaosSettings(
        seconds=1,
        workers=1,
        request_timeout=1.0,
        said_every=1000,
        drain=60,
        app="tests.integration.broken_chaos:queue",
    )
    plan = [
        PlannedFault(at=0.0, kind="fault", text="items.create: works, drops"),
        PlannedFault(at=0.1, kind="tell", thread="t", message_id="s", text="t tells 1"),
        PlannedFault(at=0.2, kind="say", thread="t", message_id="m", text="t says 1"),
    ]
    outcome = run(settings, plan=plan, redis_program=one_redis.program, logs=tmp_path)
    assert outcome.said is not None
    assert outcome.verdict.holds, table(outcome)
    assert (outcome.said.doubled, outcome.said.lost) == (1, 0), table(outcome)


@pytest.mark.parametrize("safeguard", ["doubt", "outbox"])
def test_the_runner_goes_red_for_a_build_that_doubles_or_loses_replies(
    safeguard: str, one_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each platform takes a reply and drops the connection: it was shown once, and is parked."""
    monkeypatch.setenv("WITHOUT", safeguard)
    settings = ChaosSettings(
        seconds=1,
        workers=1,
        threads=4,
        platform_every=1000,
        drain=60,
        app="tests.integration.broken_chaos:queue",
    )
    plan = [
        *(
            PlannedFault(at=0.0, kind="platform", text=f"{name}: takes it, drops", seconds=1.0)
            for name in ("telegram", "webhook")
        ),
        *(
            PlannedFault(
                at=0.2, kind="say", thread=thread, message_id=thread, text=f"{thread} says 1"
            )
            for thread in ("telegram:1", "webhook:2")
        ),
    ]
    outcome = run(settings, plan=plan, redis_program=one_redis.program, logs=tmp_path)
    found = outcome.deliveries
    assert found is not None
    assert outcome.verdict.holds, table(outcome)
    assert not outcome.holds, table(outcome)
    assert (found.lost, found.doubled, found.parked) == {
        "doubt": (0, 1, 0),
        "outbox": (2, 0, 0),
    }[safeguard], table(outcome)
