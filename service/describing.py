"""JSON Schemas, completed: descriptions from the glossary, and examples made of its samples.

Knows nothing of where the schemas are from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from service.glossary import DIGEST, DIGEST_PATTERN, OWN, SAMPLES, WORDS

Schema = MutableMapping[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def complete(schemas: MutableMapping[str, Schema]) -> None:
    """Describe every property, and give every object an example."""
    for name, schema in schemas.items():
        for prop, of in schema.get("properties", {}).items():
            word = OWN.get(f"{name}.{prop}") or WORDS.get(prop)
            if not of.get("description") and word:
                of["description"] = word
    for schema in schemas.values():
        if schema.get("type") == "object" and "examples" not in schema:
            schema["examples"] = [example_of(schema, schemas)]


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Schema], name: str = "") -> Any:
    """A value that the schema allows. ``name`` : of the property that has it."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    if name in SAMPLES and fits(SAMPLES[name], schema, schemas):
        return SAMPLES[name]
    if "const" in schema:
        return schema["const"]
    if schema.get("default") is not None:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    for kind in ("anyOf", "oneOf"):
        if kind in schema:
            return example_of(next(one for one in schema[kind] if one.get("type") != "null"), schemas, name)
    if schema.get("type") == "object":
        return _object(schema, schemas)
    if schema.get("type") == "array":
        return _array(schema, schemas, name)
    return _scalar(schema)


def _object(schema: Mapping[str, Any], schemas: Mapping[str, Schema]) -> dict[str, Any]:
    """What is required, and what the glossary has a sample of."""
    required = schema.get("required", ())
    return {
        prop: example_of(of, schemas, prop)
        for prop, of in schema.get("properties", {}).items()
        if prop in required or "const" in of or (prop in SAMPLES and fits(SAMPLES[prop], of, schemas))
    }


def _array(schema: Mapping[str, Any], schemas: Mapping[str, Schema], name: str) -> list[Any]:
    if "prefixItems" in schema:
        return [example_of(one, schemas, name) for one in schema["prefixItems"]]
    items = schema.get("items")
    return [example_of(items, schemas, name)] * max(1, schema.get("minItems", 1)) if items else []


def _scalar(schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if kind == "boolean":
        return False
    if kind in ("integer", "number"):
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        most = schema.get("maximum", schema.get("exclusiveMaximum"))
        value = least if most is None else (least + most) / 2
        if "exclusiveMinimum" in schema and value == least:
            value += 1
        return int(value) if kind == "integer" else float(value)
    if kind == "string":
        return DIGEST if schema.get("pattern") == DIGEST_PATTERN else "text"[: schema.get("maxLength", 4)]
    return {}


def fits(value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Schema]) -> bool:
    """Whether the schema allows a sample."""
    if "$ref" in schema:
        return fits(value, schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for kind in ("anyOf", "oneOf"):
        if kind in schema:
            return any(fits(value, one, schemas) for one in schema[kind])
    if "const" in schema:
        return bool(value == schema["const"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    named = schema.get("type")
    allowed = _TYPES.get(named or "", (object,))
    if not isinstance(value, allowed) or (isinstance(value, bool) and named != "boolean"):
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None and len(value) <= schema.get("maxLength", 10**9)
    if isinstance(value, int | float):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return named is None or not isinstance(value, dict)
