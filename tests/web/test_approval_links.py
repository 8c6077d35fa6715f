"""Links that approve and deny without a login, over the real service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from assistant_queue import (
    Approval,
    ApprovalLinks,
    ApprovalNotFound,
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    ConfigurationError,
    InvalidArgument,
)
from assistant_queue.integrations.fastapi import create_app
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until
from tests.unit.test_link_tokens import OTHER, SECRET
from tests.web.conftest import queue_options, running


def refuse_all(*_: Any) -> bool:
    return False


def model(turn: Turn) -> Outcome:
    if turn.tool_outputs:
        return Reply(f"It says: {turn.tool_outputs[0].output}")
    name, _, order = turn.user_texts[-1].rpartition(" ")
    return ToolCalls([(name, {"order": order})])


class Desk:
    """A queue with tools that need an approval, and the calls that were made."""

    def __init__(self, queue: AssistantMessageQueue) -> None:
        self.queue = queue
        self.done: list[tuple[str, str]] = []

        @queue.tool(approval="Refund <b>order</b> {order}?")
        def refund(order: str) -> str:
            self.done.append(("refund", order))
            return f"refunded {order}"

        @queue.tool(approval=True)
        def cancel(order: str) -> str:
            self.done.append(("cancel", order))
            return "cancelled"

    def asked(self, text: str = "refund 7") -> tuple[str, Approval]:
        """Add a message; return its id and the call that waits."""
        receipt = self.queue.add_message_to_thread(f"of {text}", text)
        wait_until(lambda: self.queue.list_approvals(thread_id=f"of {text}"), "it is asked")
        return receipt.message_id, self.queue.list_approvals(thread_id=f"of {text}")[0]

    def links(self, call: Approval, url: str, **options: Any) -> ApprovalLinks:
        return self.queue.approval_links(call.call_id, base_url=url, **options)


@pytest.fixture
def desk(one_redis: RedisServer, provider: StandInProvider, prefix: str) -> Iterator[Desk]:
    provider.model = model
    options = queue_options(one_redis.url, provider, prefix, message_delay=0, events="always")
    with AssistantMessageQueue(**options, approval_secret=SECRET) as queue:
        made = Desk(queue)
        queue.start_worker()
        yield made


def events_of(desk: Desk, thread_id: str) -> list[str]:
    return [one.type for one in desk.queue.events(thread_id, after="0-0", timeout=0.01)]


def test_a_link_acts_when_its_button_is_pressed_and_once(desk: Desk) -> None:
    message_id, call = desk.asked()
    with (
        running(desk.queue, root_path="/chat", authorize=refuse_all) as site,
        httpx.Client() as web,
    ):
        base = f"{site.url}/chat/"
        links = desk.links(call, base, by="Eve & Co", expires_in=60)
        assert (links.expires_at - call.requested_at).total_seconds() < 3600
        assert links.approve.startswith(f"{site.url}/chat/approval?token=1.")
        for url in (links.approve, links.deny):
            shown = web.get(url, headers={"User-Agent": "Slackbot-LinkExpanding 1.0"})
            assert shown.status_code == 200
            assert "Refund &lt;b&gt;order&lt;/b&gt; 7?" in shown.text
            assert "As Eve &amp; Co." in shown.text
            assert call.thread_id not in shown.text
            assert "<script" not in shown.text
            assert (shown.headers["cache-control"], shown.headers["referrer-policy"]) == (
                "no-store",
                "no-referrer",
            )
            assert "default-src 'none'" in shown.headers["content-security-policy"]
            assert (web.head(url).status_code, web.head(url).content) == (200, b"")
            assert web.put(url).status_code == 405
        assert desk.queue.list_approvals() == [call], "nothing was settled by looking"
        assert events_of(desk, call.thread_id).count("approval_settled") == 0
        done = web.post(links.approve, headers={"Origin": "null"})
        assert done.status_code == 200
        assert "<h1>Approved by Eve &amp; Co</h1>" in done.text
        assert desk.queue.wait_for_reply(message_id, PATIENCE_S) == "It says: refunded 7"
        assert desk.done == [("refund", "7")]
        for url, send, status in (
            (links.approve, web.get, 200),
            (links.deny, web.get, 200),
            (links.approve, web.post, 409),
            (links.deny, web.post, 409),
            (links.deny.replace("/approval", "/api/approval"), web.post, 409),
        ):
            late = send(url)
            assert late.status_code == status
            assert "<h1>Approved by Eve &amp; Co</h1>" in late.text, "the journal knows"
            assert "Refund" not in late.text, "its texts are removed"
        assert desk.done == [("refund", "7")]
        (record,) = desk.queue.get_timeline(call.thread_id)
        assert [one.settled_by for one in record.tool_calls] == ["Eve & Co"]


def test_a_call_without_a_question_is_shown_with_its_arguments_and_denied(desk: Desk) -> None:
    message_id, call = desk.asked("cancel <i>")
    with running(desk.queue) as site, httpx.Client() as web:
        links = desk.links(call, f"{site.url}/api")
        assert links.expires_at == call.expires_at
        shown = web.get(links.deny).text
        assert "Call cancel?" in shown
        assert "<dt>order</dt><dd>&lt;i&gt;</dd>" in shown
        assert "<h1>Denied</h1>" in web.post(links.deny).text
        assert "denied" in str(desk.queue.wait_for_reply(message_id, PATIENCE_S))
        assert desk.done == []


def test_a_denial_by_a_link_has_a_reason_that_the_model_reads(desk: Desk) -> None:
    message_id, call = desk.asked("cancel 8")
    with running(desk.queue) as site, httpx.Client() as web:
        links = desk.links(call, site.url, by="Eve")
        assert "<textarea" not in web.get(links.approve).text
        assert '<textarea name="reason" rows="3" maxlength="2000"></textarea>' in (
            web.get(links.deny).text
        )
        long = "\U0001f600" * 2000
        reason = f"{long[:-20]}<b>no</b>\r\n& no"
        denied = web.post(links.deny, data={"reason": f" {reason} ", "other": "field"})
        assert denied.status_code == 200
        assert "Reason: \U0001f600" in denied.text
        assert "&lt;b&gt;no&lt;/b&gt;\n&amp; no</p>" in denied.text
        reply = str(desk.queue.wait_for_reply(message_id, PATIENCE_S))
        assert "<b>no</b>\\n& no" in reply
        later = web.get(links.deny).text
        assert "Denied by Eve" in later
        assert "no</b>" not in later, "texts of a call that was submitted are removed"


@pytest.mark.parametrize("blank", ["", "reason=", "reason=+%0D%0A+", "other=1"])
def test_a_denial_by_a_link_needs_no_reason(desk: Desk, blank: str) -> None:
    message_id, call = desk.asked()
    with running(desk.queue) as site:
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
        link = desk.links(call, site.url).deny
        denied = httpx.post(link, content=blank, headers=headers)
        assert (denied.status_code, "Reason" in denied.text) == (200, False)
        assert "denied" in str(desk.queue.wait_for_reply(message_id, PATIENCE_S))


def test_a_reason_that_cannot_be_taken_settles_nothing(desk: Desk) -> None:
    _, call = desk.asked()
    with running(desk.queue) as site, httpx.Client() as web:
        links = desk.links(call, site.url)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for link, content, headers, said in (
            (links.deny, f"reason={'x' * 2001}", form, "longer than 2,000 characters"),
            (links.deny, "reason=%FF", form, "not a form"),
            (links.deny, "reason=%ED%A0%80", form, "not a form"),
            (links.deny, b"reason=\xff", form, "not a form"),
            (links.deny, "&".join(["a=1"] * 11), form, "not a form"),
            (links.deny, "reason=no", {}, "not a form"),
            (links.deny, '{"reason": "no"}', {"Content-Type": "application/json"}, "not a form"),
            (links.approve, "reason=no", form, "An approval has no reason"),
        ):
            answer = web.post(link, content=content, headers=headers)
            assert (answer.status_code, said in answer.text) == (422, True), (content, answer.text)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert "Nothing was done" in answer.text
        pieces = iter([b"reason=", b"x" * 40_000])
        assert web.post(links.deny, content=pieces, headers=form).status_code == 413
        wrong = web.post(f"{site.url}/approval?token=1.x.y", data={"reason": "x" * 2001})
        assert wrong.status_code == 403
        assert desk.queue.list_approvals() == [call]


def test_links_that_are_wrong_or_over_do_nothing(
    desk: Desk, one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    _, call = desk.asked()
    _, other = desk.asked("refund 8")
    _, dropped = desk.asked("refund 9")
    options = queue_options(one_redis.url, provider, prefix)
    with (
        AssistantMessageQueue(**options, approval_secret=[OTHER, SECRET]) as rotated,
        running(rotated, request_limit="40/hour") as site,
        httpx.Client() as web,
    ):
        links = desk.links(call, site.url)
        assert web.get(links.approve).status_code == 200, "signed before the rotation"
        assert web.get(rotated.approval_links(call.call_id, base_url=site.url).deny).is_success
        gone = desk.links(dropped, site.url)
        desk.queue.stop(dropped.thread_id)
        state = desk.queue.get_thread_status
        wait_until(lambda: state(dropped.thread_id).state == "idle", "it is stopped")
        assert "<h1>Settled</h1>" in web.post(gone.approve).text
        desk.queue.forget_thread(dropped.thread_id)
        known = rotated.approval_links(other.call_id, base_url=site.url).approve
        token = known.partition("=")[2]
        answers = set()
        for wrong in ("", "1.x.y", token[:-2] + "AA", "2" + token[1:]):
            for send in (web.get, web.post):
                answer = send(f"{site.url}/approval", params={"token": wrong})
                assert answer.status_code == 403
                answers.add(answer.text)
        assert len(answers) == 1, "whichever call it is about"
        assert "not valid" in answers.pop()
        assert web.get(f"{site.url}/approval").status_code == 403
        too_long = web.post(f"{site.url}/approval", params={"token": "x" * 5000})
        assert (too_long.status_code, too_long.headers["content-type"]) == (
            422,
            "text/html; charset=utf-8",
        )
        assert web.post(known, content=b"x" * 40_000).status_code == 413
        for send in (web.get, web.post):
            assert send(gone.approve).status_code == 410
        flood = next(one for one in (web.get(known) for _ in range(60)) if one.status_code != 200)
        assert flood.status_code == 429
        assert int(flood.headers["retry-after"]) > 0
    assert {one.call_id for one in desk.queue.list_approvals()} == {call.call_id, other.call_id}
    assert desk.done == []


async def test_a_link_expires_before_its_call(desk: Desk) -> None:
    _, call = desk.asked()
    options = {
        name: getattr(desk.queue.config, name) for name in desk.queue.config.model_fields_set
    }
    async with AsyncAssistantMessageQueue(**options) as queue:
        clock = FakeClock(round(call.requested_at.timestamp() * 1000))
        queue.core.namespace.clock.store_now_ms = clock.store_now_ms
        links = await queue.approval_links(call.call_id, base_url="http://test", expires_in=10)
        app = create_app(queue, authorize=refuse_all)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport) as web:
            clock.advance(9.9)
            assert (await web.get(links.approve)).status_code == 200
            clock.advance(0.1)
            for answer in (await web.get(links.approve), await web.post(links.approve)):
                assert answer.status_code == 410
                assert "has expired" in answer.text
                assert "Refund" not in answer.text
        assert await queue.list_approvals() == [call]
        assert await queue.deny(call.call_id, by="Jo")
        async with httpx.AsyncClient(transport=transport) as web:
            late = await web.get(links.approve)
            assert (late.status_code, "Denied by Jo" in late.text) == (200, True)


def test_bad_arguments_and_a_missing_secret_are_typed_errors(desk: Desk) -> None:
    _, call = desk.asked()
    with pytest.raises(ApprovalNotFound):
        desk.queue.approval_links("call_of_nobody", base_url="https://chat.example.com")
    options = {
        name: getattr(desk.queue.config, name) for name in desk.queue.config.model_fields_set
    }
    with AssistantMessageQueue(**{**options, "approval_secret": None}) as bare:
        with pytest.raises(ConfigurationError, match="approval_secret is missing"):
            bare.approval_links(call.call_id, base_url="https://chat.example.com")
        with running(bare) as site:
            assert httpx.get(f"{site.url}/approval").status_code == 404
    with pytest.raises(InvalidArgument, match="base_url"):
        desk.queue.approval_links(call.call_id, base_url="https://chat.example.com/?q=1")


def test_the_document_has_both_operations_as_pages(desk: Desk) -> None:
    found = create_app(desk.queue, authorize=refuse_all).openapi()
    methods = found["paths"]["/api/approval"]
    assert set(methods) == {"get", "post"}
    for details in methods.values():
        assert details["description"]
        assert {"200", "403", "410", "429"} <= details["responses"].keys()
        for answer in details["responses"].values():
            assert list(answer["content"]) == ["text/html"]
        assert re.fullmatch(r"[A-Z][a-z ]+", details["summary"])


def test_a_link_has_the_path_of_the_service(desk: Desk) -> None:
    _, call = desk.asked()
    for base in ("https://a.example", "https://a.example/", "http://a.example:8080/x/y/"):
        parts = urlsplit(desk.links(call, base).deny)
        assert f"{parts.scheme}://{parts.netloc}" in base
        assert parts.path == f"{urlsplit(base).path.rstrip('/')}/approval"
