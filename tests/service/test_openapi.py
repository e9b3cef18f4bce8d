"""The interface describes itself: every property, with an example that its schema allows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from mindsight.settings import Settings
from service import asyncapi
from service.app import create_app
from service.glossary import OWN, WORDS

ASYNCAPI = Path(__file__).parents[2] / "docs" / "api" / "asyncapi.json"


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("data"))).openapi()


def properties(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, schema in document["components"]["schemas"].items():
        for prop, of in schema.get("properties", {}).items():
            yield f"{name}.{prop}", of


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method} {path}", operation


def test_every_property_parameter_and_operation_is_described(described: dict[str, Any]) -> None:
    found = [name for name, of in properties(described) if not of.get("description")]
    found += [name for name, of in properties(asyncapi.document()) if not of.get("description")]
    for name, operation in operations(described):
        found += [f"{name} {one['name']}" for one in operation.get("parameters", ()) if not one.get("description")]
        found += [] if operation.get("description") else [name]
    assert found == [], "add a description to the model or the route, or a word to service/glossary.py"


def test_the_glossary_has_no_word_that_nothing_needs(described: dict[str, Any]) -> None:
    used = {name for document in (described, asyncapi.document()) for name, _ in properties(document)}
    names = {name.partition(".")[2] for name in used}
    names |= {one["name"] for _, operation in operations(described) for one in operation.get("parameters", ())}
    assert (OWN.keys() - used, WORDS.keys() - names) == (set(), set())


def test_every_object_has_an_example_that_its_schema_allows(described: dict[str, Any]) -> None:
    for document in (described, asyncapi.document()):
        for name, schema in document["components"]["schemas"].items():
            if schema.get("type") != "object":
                continue
            whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            for example in schema["examples"]:
                assert jsonschema_rs.is_valid(whole, example), (name, example)


def test_operations_name_the_scopes_that_a_key_needs(described: dict[str, Any]) -> None:
    assert described["paths"]["/v1/keys"]["post"]["x-scopes"] == ["admin"]
    assert "x-scopes" not in described["paths"]["/v1/health"]["get"]
    assert described["openapi"] == "3.1.0"


def test_the_streams_are_described_as_the_document_in_the_docs_says() -> None:
    assert json.loads(ASYNCAPI.read_text()) == asyncapi.document(), (
        "the messages have changed; the file holds the output of"
        " python -c 'from service import asyncapi; print(asyncapi.text(), end=\"\")'"
    )
