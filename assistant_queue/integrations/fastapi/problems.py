"""What the service says when it says no: application/problem+json, without anything that is nobody's business."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from assistant_queue import errors
from assistant_queue.errors import AssistantQueueError, BackendError
from assistant_queue.integrations.fastapi.invalid import fields_of

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class InvalidField(BaseModel):
    """One part of a request that is wrong."""

    where: str = Field(description="Where it stands: `body.message`, `query.limit`.")
    why: str


class QueueProblem(BaseModel):
    """Why a request was not done (RFC 9457)."""

    type: Annotated[str, Field(description="`code` says more.")] = "about:blank"
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="A stable word for programs.")
    detail: str = Field(description="A sentence for people.")
    request_id: Annotated[str | None, Field(description="What to ask the service's owner about; also the header X-Request-ID.")] = None
    fields: Annotated[list[InvalidField] | None, Field(description="With `invalid_request`: what is wrong.")] = None


class Refusal(Exception):
    """The service itself says no; becomes a problem."""

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers, self.more = status, code, detail, dict(headers or {}), more


@dataclass(frozen=True, slots=True)
class Answer:
    """How an error of ours is told.

    Attributes:
        status: The HTTP status.
        detail: The sentence; None for the error's own, which quotes nothing but the request.
        retry_after_s: Seconds after which the same request may succeed, None where it will not.
    """

    status: int
    detail: str | None = None
    retry_after_s: int | None = None


# The messages of errors name Redis, the provider and the batch: they are for the log. What clients are told stands here.
ANSWERS: dict[type[AssistantQueueError], Answer] = {
    errors.InvalidArgument: Answer(422),
    errors.MessageIdConflict: Answer(409, "This message id is taken by another message; nothing was queued. Use a new id."),
    errors.ThreadFull: Answer(429, "This thread holds as many waiting messages as it may; nothing was queued.", 5),
    errors.ThreadBusy: Answer(409, "This thread is being worked on; nothing was done. Try again when it is idle.", 1),
    errors.MessageNotFound: Answer(404, "There is no such message in this thread, or it has been forgotten."),
    errors.MessageCancelled: Answer(409, "This message was cancelled: there will be no reply."),
    errors.BatchNotFound: Answer(404, "There is no such failed batch: it never failed, or was retried or discarded."),
    errors.BatchFailed: Answer(502, "This message could not be answered; it is kept, and a person can have it tried again."),
    errors.QueueError: Answer(409, "The queue cannot do this now; nothing was changed."),
    errors.NotAuthenticated: Answer(401, "It is not known who is asking."),
    errors.NotAllowed: Answer(403, "This is not allowed."),
    errors.AccessDenied: Answer(403, "This is not allowed."),
    errors.NotPermitted: Answer(503, "The service cannot do this at the moment; nothing was done."),
    errors.StoreUnavailable: Answer(503, "The service does not reach its memory; with a message id of yours, send the same again.", 2),
    errors.StoreError: Answer(503, "The service cannot do this at the moment; nothing was done.", 5),
    errors.UnknownThread: Answer(404, "The provider does not know this thread."),
    errors.RunVanished: Answer(404, "The provider does not know this run."),
    errors.ConversationBusy: Answer(409, "The thread is in use at the provider; nothing was done.", 2),
    errors.NotSupported: Answer(501, "This service's assistant has no such call; messages are answered all the same."),
    errors.OutcomeUnknown: Answer(502, "The provider did not answer: whether this was done is not known. Look before repeating it.", 5),
    errors.RequestRefused: Answer(502, "The provider refused; nothing was done.", 5),
    errors.BackendError: Answer(502, "The provider could not do this.", 5),
    errors.LeaseLost: Answer(409, "Another worker holds the thread now; try again.", 1),
    errors.ConfigurationError: Answer(501, "This service is not set up for this."),
    errors.FormatTooNew: Answer(503, "The service is being upgraded; nothing was done.", 5),
    errors.CallbackError: Answer(500, "Something went wrong in the service; nothing is known to have changed."),
    errors.AssistantQueueError: Answer(500, "Something went wrong in the service; nothing is known to have changed."),
}

_PROVIDER_SAYS: Mapping[int, Answer] = {
    400: Answer(422, "The provider did not take these arguments; nothing was done."),
    404: Answer(404, "The provider does not know this."),
    409: Answer(409, "The provider cannot do this now; nothing was done.", 2),
    422: Answer(422, "The provider did not take these arguments; nothing was done."),
    429: Answer(503, "The provider takes no more requests at the moment; nothing was done.", 5),
}
INTERNAL = Answer(500, "Something went wrong in the service; nothing is known to have changed.")


def answer_for(error: AssistantQueueError) -> Answer:
    """How an error is told: by its nearest class in the table; a provider's refusal by what the provider answered."""
    if type(error) is errors.RequestRefused and error.status_code is not None and error.status_code in _PROVIDER_SAYS:
        return _PROVIDER_SAYS[error.status_code]
    return next((ANSWERS[cls] for cls in type(error).__mro__ if cls in ANSWERS), INTERNAL)


def refusal_of(error: Exception, request_id: str) -> Refusal:
    """Any exception as what clients may know of it; what they may not is logged under the request's id."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error.__cause__, Refusal):
        return error.__cause__  # of a body that FastAPI could not read to its end
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return Refusal(error.status_code, code, f"{HTTPStatus(error.status_code).phrase}.", headers=error.headers)
    if not isinstance(error, AssistantQueueError):
        _log.error("request %s failed", request_id, exc_info=error)
        return Refusal(INTERNAL.status, "internal", INTERNAL.detail or "")
    answer = answer_for(error)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("request %s: %s: %s", request_id, type(error).__name__, error)
    headers = {"WWW-Authenticate": "Bearer"} if answer.status == HTTPStatus.UNAUTHORIZED else {}
    retry_after = answer.retry_after_s
    if isinstance(error, BackendError) and error.retry_after_s is not None:
        retry_after = math.ceil(error.retry_after_s)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return Refusal(answer.status, error.code, answer.detail or str(error), headers=headers)


def _invalid(error: RequestValidationError) -> Refusal:
    # The input itself is not repeated: it may be long, and it may be a secret.
    fields = fields_of(error.errors(), error.body)
    return Refusal(422, "invalid_request", "The request cannot be read; nothing was done. `fields` says why.", fields=fields)


def problem_dict(refusal: Refusal, request_id: str | None) -> dict[str, Any]:
    """The problem as plain values."""
    made = QueueProblem(
        title=HTTPStatus(refusal.status).phrase,
        status=refusal.status,
        code=refusal.code,
        detail=refusal.detail,
        request_id=request_id,
        **refusal.more,
    )
    return made.model_dump(mode="json", exclude_none=True)


def problem_response(refusal: Refusal, request_id: str | None) -> JSONResponse:
    """The problem as a response."""
    return JSONResponse(problem_dict(refusal, request_id), refusal.status, headers=refusal.headers, media_type=MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation may answer besides success, for the OpenAPI document."""
    documented: dict[int | str, dict[str, Any]] = {}
    for status in sorted({400, 401, 403, 405, 408, 422, 429, 500, 503, *statuses}):
        headers: dict[str, Any] = {"X-Request-ID": {"schema": {"type": "string"}}}
        if status in {429, 503}:
            headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer"}}
        documented[status] = {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/QueueProblem"}}},
            "headers": headers,
        }
    return documented
