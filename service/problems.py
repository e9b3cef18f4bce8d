"""Every error as one shape: application/problem+json (RFC 9457), from one place.

Knows nothing of what went wrong. A problem never holds a path of the server, what was sent, or who sent it.
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mindsight.errors import MindsightError
from service.routes.bodies import Event

_log = logging.getLogger("mindsight.gateway")
_SAFE_DETAILS = {
    404: "there is nothing here; the interface is described at /v1/openapi.json",
    405: "this address does not take this method; the interface is described at /v1/openapi.json",
}


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="urn:mindsight: and the code")
    title: str
    status: int
    detail: str = Field(description="for a person: what was expected, what came, what to do")
    code: str = Field(description="for a program; stable")
    details: dict[str, int | float | str | None] = Field(default={}, description="numbers and names to act on")


def problem_response(
    status: int, code: str, detail: str, details: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> Response:
    problem = Problem(
        type=f"urn:mindsight:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        details=details or {},
    )
    return Response(
        problem.model_dump_json(), status_code=status, media_type="application/problem+json", headers=headers
    )


def response_of(error: MindsightError) -> Response:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(error.http_status)
    return problem_response(error.http_status, error.code, str(error), error.details, headers)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI description of a route: the problems it may answer, besides those that all may."""
    schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": schema}
        for status in sorted({*statuses, 401, 403, 422, 500, 503})
    }


def describe(app: FastAPI) -> None:
    """Put into the OpenAPI description what all routes share: the schema of a problem, and the key they ask for."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        components = document["components"]
        components["schemas"]["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"]["Event"] = Event.model_json_schema(ref_template="#/components/schemas/{model}")
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "ms_<id>_<secret>"}}
        document["security"] = [{"key": []}]
        document["paths"]["/v1/health"]["get"]["security"] = []
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def install(app: FastAPI) -> None:
    """Make every error of the app a problem, also one that comes before a WebSocket's handshake."""

    async def answer(connection: Request | WebSocket, response: Response) -> Response | None:
        if isinstance(connection, WebSocket):
            await connection.send_denial_response(response)
            return None
        return response

    async def mindsight_error(connection: Request | WebSocket, error: Exception) -> Response | None:
        assert isinstance(error, MindsightError)
        return await answer(connection, response_of(error))

    async def validation_error(connection: Request | WebSocket, error: Exception) -> Response | None:
        assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
        detail = explain_validation(error.errors())
        return await answer(connection, problem_response(422, "request.invalid", detail))

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, MindsightError):  # FastAPI wraps what happens while a body is read
            return response_of(error.__cause__)
        status = error.status_code
        detail = _SAFE_DETAILS.get(status, HTTPStatus(status).phrase.lower())
        code = {404: "not_found", 405: "request.method"}.get(status, "request.invalid")
        return problem_response(status, code, detail, headers=dict(error.headers or {}))

    async def unexpected(request: Request, error: Exception) -> Response:
        _log.error("unexpected error in %s", request.scope.get("path"), exc_info=error)
        return problem_response(500, "mindsight.error", "the service failed unexpectedly; its log says more")

    app.add_exception_handler(MindsightError, mindsight_error)  # type: ignore[arg-type]  # None is for WebSockets
    app.add_exception_handler(RequestValidationError, validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(WebSocketRequestValidationError, validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, unexpected)


def explain_validation(errors: Any) -> str:
    """Where and what, without what was sent."""
    parts = [f"{'.'.join(str(step) for step in error['loc'])}: {error['msg']}" for error in list(errors)[:5]]
    return json.dumps("; ".join(parts), ensure_ascii=False)[1:-1]
