"""Errors as application/problem+json, without internals, addresses or provider messages."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from assistant_queue import errors
from assistant_queue.errors import AssistantQueueError, BackendError
from assistant_queue.integrations.fastapi.invalid_requests import fields_of

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class InvalidField(BaseModel):
    """One invalid part of a request."""

    where: str = Field(description="Where it stands: `body.message`, `query.limit`.")
    why: str


class QueueProblem(BaseModel):
    """The reason why a request was refused or failed (RFC 9457)."""

    type: Annotated[str, Field(description="`code` says more.")] = "about:blank"
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="A stable word for programs.")
    detail: str = Field(description="A sentence for people.")
    request_id: Annotated[
        str | None,
        Field(description="What to ask the service's owner about; also the header X-Request-ID."),
    ] = None
    fields: Annotated[
        list[InvalidField] | None, Field(description="With `invalid_request`: what is wrong.")
    ] = None
    by: Annotated[
        str | None, Field(description="With `thread_taken_over`: the person that answers.")
    ] = None
    since: Annotated[
        datetime | None, Field(description="With `thread_taken_over`: since when.")
    ] = None


class ProblemRefusal(Exception):
    """A refusal by the service itself; becomes a problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more


@dataclass(frozen=True, slots=True)
class ProblemResponse:
    """The answer to an error of this package.

    Attributes:
        status: The HTTP status.
        detail: The sentence; None for the error's own, which quotes nothing but the request.
        retry_after_s: Seconds after which the same request may succeed; None if it will not.
    """

    status: int
    detail: str | None = None
    retry_after_s: int | None = None


# The messages of errors name Redis, the provider and the batch, and are for the log. These texts
# are for clients.
ANSWERS: dict[type[AssistantQueueError], ProblemResponse] = {
    errors.InvalidArgument: ProblemResponse(422),
    errors.MessageIdConflict: ProblemResponse(
        409, "This message id is taken by another message; nothing was queued. Use a new id."
    ),
    errors.ThreadFull: ProblemResponse(
        429, "This thread holds as many waiting messages as it may; nothing was queued.", 5
    ),
    errors.ThreadBusy: ProblemResponse(
        409, "This thread is being worked on; nothing was done. Try again when it is idle.", 1
    ),
    errors.ThreadTakenOver: ProblemResponse(
        409, "Another person answers this thread; nothing was changed."
    ),
    errors.MessageNotFound: ProblemResponse(
        404, "There is no such message in this thread, or it has been forgotten."
    ),
    errors.MessageCancelled: ProblemResponse(
        409, "This message was cancelled: there will be no reply."
    ),
    errors.ApprovalNotFound: ProblemResponse(
        404, "There is no such call in this thread, or not any more."
    ),
    errors.BatchNotFound: ProblemResponse(
        404,
        "There is no such batch here: it is not in the failed list, or not in the journal, or not"
        " any more.",
    ),
    errors.BatchFailed: ProblemResponse(
        502, "This message could not be answered; it is kept, and a person can have it tried again."
    ),
    errors.QueueError: ProblemResponse(409, "The queue cannot do this now; nothing was changed."),
    errors.NotAuthenticated: ProblemResponse(401, "It is not known who is asking."),
    errors.NotAllowed: ProblemResponse(403, "This is not allowed."),
    errors.AccessDenied: ProblemResponse(403, "This is not allowed."),
    errors.NotPermitted: ProblemResponse(
        503, "The service cannot do this at the moment; nothing was done."
    ),
    errors.StoreUnavailable: ProblemResponse(
        503,
        "The service does not reach its memory; with a message id of yours, send the same again.",
        2,
    ),
    errors.StoreError: ProblemResponse(
        503, "The service cannot do this at the moment; nothing was done.", 5
    ),
    errors.UnknownThread: ProblemResponse(404, "The provider does not know this thread."),
    errors.RunVanished: ProblemResponse(404, "The provider does not know this run."),
    errors.ConversationBusy: ProblemResponse(
        409, "The thread is in use at the provider; nothing was done.", 2
    ),
    errors.NotSupported: ProblemResponse(
        501, "This service's assistant has no such call; messages are answered all the same."
    ),
    errors.OutcomeUnknown: ProblemResponse(
        502,
        "The provider did not answer: whether this was done is not known. Look before repeating it.",
        5,
    ),
    errors.RequestRefused: ProblemResponse(502, "The provider refused; nothing was done.", 5),
    errors.BackendError: ProblemResponse(502, "The provider could not do this.", 5),
    errors.LeaseLost: ProblemResponse(409, "Another worker holds the thread now; try again.", 1),
    errors.ConfigurationError: ProblemResponse(501, "This service is not set up for this."),
    errors.FormatTooNew: ProblemResponse(
        503, "The service is being upgraded; nothing was done.", 5
    ),
    errors.AuditUnavailable: ProblemResponse(
        503, "The audit's database does not answer, or took too long.", 5
    ),
    errors.CallbackError: ProblemResponse(
        500, "Something went wrong in the service; nothing is known to have changed."
    ),
    errors.AssistantQueueError: ProblemResponse(
        500, "Something went wrong in the service; nothing is known to have changed."
    ),
}

_PROVIDER_SAYS: Mapping[int, ProblemResponse] = {
    400: ProblemResponse(422, "The provider did not take these arguments; nothing was done."),
    404: ProblemResponse(404, "The provider does not know this."),
    409: ProblemResponse(409, "The provider cannot do this now; nothing was done.", 2),
    422: ProblemResponse(422, "The provider did not take these arguments; nothing was done."),
    429: ProblemResponse(
        503, "The provider takes no more requests at the moment; nothing was done.", 5
    ),
}
INTERNAL = ProblemResponse(
    500, "Something went wrong in the service; nothing is known to have changed."
)


def answer_for(error: AssistantQueueError) -> ProblemResponse:
    """Return the answer of an error's nearest class, or of the status of a provider's refusal."""
    if (
        type(error) is errors.RequestRefused
        and error.status_code is not None
        and error.status_code in _PROVIDER_SAYS
    ):
        return _PROVIDER_SAYS[error.status_code]
    return next((ANSWERS[cls] for cls in type(error).__mro__ if cls in ANSWERS), INTERNAL)


def refusal_of(error: Exception, request_id: str) -> ProblemRefusal:
    """Return a refusal for clients; an exception's details are logged under the request's id."""
    if isinstance(error, ProblemRefusal):
        return error
    if isinstance(error.__cause__, ProblemRefusal):
        return error.__cause__  # raised while FastAPI read the body
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return ProblemRefusal(
            error.status_code,
            code,
            f"{HTTPStatus(error.status_code).phrase}.",
            headers=error.headers,
        )
    if not isinstance(error, AssistantQueueError):
        _log.error("request %s failed", request_id, exc_info=error)
        return ProblemRefusal(INTERNAL.status, "internal", INTERNAL.detail or "")
    answer = answer_for(error)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("request %s: %s: %s", request_id, type(error).__name__, error)
    headers = {"WWW-Authenticate": "Bearer"} if answer.status == HTTPStatus.UNAUTHORIZED else {}
    retry_after = answer.retry_after_s
    if isinstance(error, BackendError) and error.retry_after_s is not None:
        retry_after = math.ceil(error.retry_after_s)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    more: dict[str, Any] = {}
    if isinstance(error, errors.ThreadTakenOver):
        more = {"by": error.by, "since": error.since}
    return ProblemRefusal(
        answer.status, error.code, answer.detail or str(error), headers=headers, **more
    )


def _invalid(error: RequestValidationError) -> ProblemRefusal:
    # The input itself is not repeated: it may be long or secret.
    fields = fields_of(error.errors(), error.body)
    return ProblemRefusal(
        422,
        "invalid_request",
        "The request cannot be read; nothing was done. `fields` says why.",
        fields=fields,
    )


def problem_dict(refusal: ProblemRefusal, request_id: str | None) -> dict[str, Any]:
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


def problem_response(refusal: ProblemRefusal, request_id: str | None) -> JSONResponse:
    """Return the problem as a response."""
    return JSONResponse(
        problem_dict(refusal, request_id),
        refusal.status,
        headers=refusal.headers,
        media_type=MEDIA_TYPE,
    )


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of an operation, for the OpenAPI document."""
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


_BY_CODE: Mapping[str, Any] = {cls.code: answer for cls, answer in reversed(ANSWERS.items())}


def problem_of_code(code: str) -> QueueProblem:
    """Return the problem for an error's code; the error's own message is not for clients."""
    answer = _BY_CODE.get(code)
    detail = (answer.detail if answer else None) or "The assistant could not answer."
    return QueueProblem(
        title="Failed", status=answer.status if answer else 502, code=code, detail=detail
    )
