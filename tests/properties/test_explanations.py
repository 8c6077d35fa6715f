"""Explanations against the model of the store, along its fixed walks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import fakeredis
import pytest

from tests.contract.store_rig import Rig

sys.path.insert(0, str(Path(__file__).parent))
from outbox_model import OutboxMachine, outbox_tour
from quiet_tour import quiet_tour
from said_tour import said_tour
from stop_tour import join_tour, stop_tour
from store_model import StoreMachine, tour

NEWEST = 4
"""Messages that are explained after each step: those that the walks are about."""


class Explaining(StoreMachine):
    """A machine that asks for explanations instead of looking into the keys."""

    def look(self) -> None:
        for message in list(self.messages)[-NEWEST:]:
            self.explain(message)


@pytest.mark.parametrize("walk", [tour, quiet_tour, said_tour, stop_tour, join_tour])
def test_each_step_of_a_walk_is_explained_as_the_model_has_it(
    walk: Callable[[StoreMachine], None],
) -> None:
    class OnOwnRedis(Explaining):
        make_rig = staticmethod(lambda: Rig(fakeredis.FakeRedis(version=(7,)), "walk"))

    walk(OnOwnRedis())


class ExplainingOutbox(OutboxMachine):
    """A machine that asks for explanations after each step."""

    def the_lines_are_those_of_the_model(self) -> None:
        super().the_lines_are_those_of_the_model()
        for thread in self.lines:
            self.an_explanation_agrees(thread=thread)


def test_each_step_of_the_deliveries_is_explained_as_the_model_has_it() -> None:
    class OnOwnRedis(ExplainingOutbox):
        make_rig = staticmethod(lambda: Rig(fakeredis.FakeRedis(version=(7,)), "walk"))

    outbox_tour(OnOwnRedis())
