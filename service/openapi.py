"""What the OpenAPI description says of all routes together: the shape of a problem, and the key that is asked for."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from service.problems import Problem
from service.routes.events import Event

_REF = "#/components/schemas/{model}"


def describe(app: FastAPI) -> None:
    """Add it to the app's description. Events are read by hand, so that their schema is added here too."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        components = document["components"]
        components["schemas"]["Problem"] = Problem.model_json_schema(ref_template=_REF)
        components["schemas"]["Event"] = Event.model_json_schema(ref_template=_REF)
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "ms_<id>_<secret>"}}
        document["security"] = [{"key": []}]
        document["paths"]["/v1/health"]["get"]["security"] = []
        return document

    app.openapi = openapi  # type: ignore[method-assign]
