"""Bodies of requests and answers about a running answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Promotion(BaseModel):
    """The wish that a waiting message makes."""

    mid_run: Literal["interrupt", "steer"] = Field(
        default="interrupt", description="What it does to the answer that is under way."
    )


class Promoted(BaseModel):
    """The result of a promotion."""

    promoted: bool = Field(description="False: it does not wait, or no answer is under way.")


class StopAsked(BaseModel):
    """The result of a stop."""

    stopped: bool = Field(description="False: no answer is under way.")


class Flushed(BaseModel):
    """The result of a flush."""

    flushed: bool = Field(description="False: no message waits that wants a reply.")
