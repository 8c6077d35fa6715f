"""The channels of the package pass the suite that users run on theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistant_queue.testing.channels import StandInTelegram, WebhookReceiver
from assistant_queue.testing.channels.conformance import ChannelConformance
from tests.channels.rigs import TelegramRig, WebhookRig


class TestTelegram(ChannelConformance):
    @pytest.fixture
    def rig(self) -> Iterator[TelegramRig]:
        with StandInTelegram() as platform:
            yield TelegramRig(platform)


class TestWebhook(ChannelConformance):
    @pytest.fixture
    def rig(self) -> Iterator[WebhookRig]:
        with WebhookReceiver() as platform:
            yield WebhookRig(platform)
