"""What the OpenAPI description says of all routes together: problems, keys and their scopes, the meaning of each
property, examples.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.describing import complete, example_of
from service.glossary import SAMPLES, WORDS
from service.idempotency import HEADER, keeps_replies
from service.problems import Problem, responses, routes_of
from service.routes.events import Event

_REF = "#/components/schemas/{model}"
_IDEMPOTENCY = {
    "name": HEADER.title(),
    "in": "header",
    "required": False,
    "description": "a random id of your own: a repeat with the same id and body gets the first response, and changes"
    " nothing; kept for a day",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}


def describe(app: FastAPI) -> None:
    """Add it to the app's description. Events are read by hand, so that their schema is added here too."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = original()
        components = document["components"]
        components["schemas"]["Problem"] = Problem.model_json_schema(ref_template=_REF)
        components["schemas"]["Event"] = Event.model_json_schema(ref_template=_REF)
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "ms_<id>_<secret>"}}
        document["security"] = [{"key": []}]
        for path in ("/v1/health", "/v1/sign-in", "/v1/sign-in/callback"):
            document["paths"][path]["get"]["security"] = []
        complete(components["schemas"])
        for route in routes_of(app.routes):
            for method in route.methods or ():
                _describe(document["paths"][route.path][method.lower()], method, route, components["schemas"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(operation: dict[str, Any], method: str, route: APIRoute, schemas: dict[str, Any]) -> None:
    if scopes := scopes_of(route):
        operation["x-scopes"] = list(scopes)
    for parameter in operation.get("parameters", ()):
        if not parameter.get("description"):
            parameter["description"] = WORDS[parameter["name"]]
        if "example" not in parameter and parameter["name"] in SAMPLES:
            parameter["example"] = example_of(parameter["schema"], schemas, parameter["name"])
    others = {408, 413} if "requestBody" in operation else set()
    if method == "POST" and keeps_replies(route.path):
        operation.setdefault("parameters", []).append(_IDEMPOTENCY)
        others.add(409)
    operation["responses"] |= {str(status): of for status, of in responses(*others).items() if status in others}


def scopes_of(route: APIRoute) -> tuple[str, ...]:
    """The scopes of which a key needs one."""
    return next((one.call.scopes for one in route.dependant.dependencies if hasattr(one.call, "scopes")), ())  # type: ignore[union-attr]
