"""The live streams, described: an AsyncAPI 3.0 document with the JSON Schema of every message, made from their types.

``docs/api/asyncapi.json`` holds ``text()``, and a test compares the two. Knows nothing of routes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mindsight.protocol import Message
from mindsight.protocol.feedback import Drawn, Ping, Pong, Show, ShowPlan
from mindsight.protocol.messages import VERSION
from mindsight.protocol.stream import LatestHeader, Tick, Want
from service.describing import complete

_REF = "#/components/schemas/{model}"
LOGGED: tuple[type[BaseModel], ...] = get_args(get_args(Message)[0])
"""What a session's log may hold."""


@dataclass(frozen=True)
class Channel:
    """One address, and what passes there."""

    address: str
    kind: str  # WS, or GET of an event stream
    title: str
    description: str
    sent: tuple[type[BaseModel], ...]
    received: tuple[type[BaseModel], ...] = ()


CHANNELS = {
    "stream": Channel(
        "/v1/sessions/{session}/stream",
        "WS",
        "A session, live",
        "The session's messages after ?after=, in order, each once, as text frames; a tick every two seconds. A client"
        " that takes nothing for ten seconds is closed with 4408 and the cursor to resume from. Of the lanes that it"
        " asks for with want it gets the newest item only, as binary frames: four bytes (big-endian) with the length of"
        " the header, the header (LatestHeader) as JSON, the payload. Scope events:read; a browser offers a ticket of"
        " POST /v1/ws-tickets as subprotocol mindsight.ticket.<ticket>.",
        (*LOGGED, Tick, LatestHeader),
        (Want,),
    ),
    "events": Channel(
        "/v1/sessions/{session}/events",
        "GET",
        "A session, live, as server-sent events",
        "The same messages as events with id and data; ticks are events of the type tick. Last-Event-ID resumes.",
        (*LOGGED, Tick),
    ),
    "participant": Channel(
        "/v1/sessions/{session}/participant",
        "WS",
        "A participant's screen",
        "What the experimenter chose to feed back, and nothing else. A picture comes as a binary frame: four bytes"
        " (big-endian) with the length of show, show as JSON, the picture. The screen reports what it has drawn. Scope"
        " feedback:read.",
        (ShowPlan, Show, Pong),
        (Drawn, Ping),
    ),
}


def document() -> dict[str, Any]:
    """The description of all channels."""
    models = sorted({model for one in CHANNELS.values() for model in (*one.sent, *one.received)}, key=_name)
    _, schemas = models_json_schema([(model, "serialization") for model in models], ref_template=_REF)
    complete(schemas["$defs"])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Mindsight live streams",
            "version": str(VERSION),  # of the messages, which changes with them alone
            "description": "What happens in a session, while it happens.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(channel) for name, channel in CHANNELS.items()},
        "operations": {
            f"{verb}-{name}": {"action": verb, "channel": {"$ref": f"#/channels/{name}"}, "messages": _refs(name, some)}
            for name, channel in CHANNELS.items()
            for verb, some in (("send", channel.sent), ("receive", channel.received))
            if some
        },
        "components": {
            "messages": {_name(model): _message(model) for model in models},
            "schemas": schemas["$defs"],
        },
    }


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "address": channel.address,
        "title": channel.title,
        "description": channel.description,
        "parameters": {"session": {"description": "the session's id"}},
        "messages": {
            _name(model): {"$ref": f"#/components/messages/{_name(model)}"}
            for model in (*channel.sent, *channel.received)
        },
        "x-kind": channel.kind,
    }


def _refs(channel: str, models: tuple[type[BaseModel], ...]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/{channel}/messages/{_name(model)}"} for model in models]


def _message(model: type[BaseModel]) -> dict[str, Any]:
    summary = (model.__doc__ or "").strip().partition("\n")[0]
    return {
        "name": _name(model),
        "summary": "" if summary.startswith("!!!") else summary,
        "payload": {"$ref": _REF.format(model=model.__name__)},
    }


def _name(model: type[BaseModel]) -> str:
    """The message's type, as it is on the wire; a header has none."""
    field = model.model_fields.get("type")
    return str(field.default) if field is not None else model.__name__


def text() -> str:
    """As the document lies in the docs."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
