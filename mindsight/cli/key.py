from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mindsight.cli.style import AsJson, example, show, show_rows

if TYPE_CHECKING:
    from service.keys import Key, KeyStore

key_app = typer.Typer(
    help="Keys of this data folder: who may do what. Run it where the data folder is; a running service follows.",
    no_args_is_help=True,
)


@key_app.command("list", epilog=example("mindsight key list"))
def list_keys(as_json: AsJson = False) -> None:
    """Print the keys: the id, the role, what it is for. The secrets are kept nowhere."""
    found = _store().list()
    rows = [(key.id, key.role, _time(key.created_t), key.note or _purpose(key)) for key in found]
    none = "no keys yet: the first mindsight serve makes one per role, mindsight key new makes one"
    show_rows(("id", "role", "made", "for"), rows, [_facts(key) for key in found], as_json, none)


@key_app.command(
    "new", epilog=example("mindsight key new viewer", "mindsight key new console --note 'stimulus computer, room 2'")
)
def new_key(
    role: Annotated[
        Literal["admin", "experimenter", "console", "viewer", "participant"], typer.Argument(help="what it may do")
    ],
    note: Annotated[str, typer.Option(help="whom or what it is for, to know it by in the list; never a name")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    from mindsight.client.address import gateway_url
    from mindsight.errors import ServiceUnavailable
    from mindsight.operations.welcome import dashboard
    from mindsight.settings import read_settings

    key, text = _store().mint(role, note)
    _log("POST", key.id)
    facts = _facts(key) | {"key": text}
    lines = [text, f"  {_purpose(key)}"]
    if role != "console":  # it reads nothing
        try:
            url = gateway_url(read_settings().data_dir)
            screen = f"{url}/participant.html#session=SESSION&key={text}"
            facts["dashboard"] = screen if role == "participant" else dashboard(url, text)
            lines.append(f"  {facts['dashboard']}")
        except ServiceUnavailable:
            pass  # the key is good from the service's next start on
    show("\n".join(lines), facts, as_json)


@key_app.command("revoke", epilog=example("mindsight key revoke 1f0c2a9b"))
def revoke_key(id: Annotated[str, typer.Argument(help="the key's id, as mindsight key list prints it")]) -> None:
    """Refuse a key from now on, also in streams that are open."""
    id = id.removeprefix("ms_").partition("_")[0]  # of a whole key that somebody found, its id
    _store().revoke(id)
    _log("DELETE", id)
    typer.echo(f"{id} is refused from now on")


def _store() -> KeyStore:
    from mindsight.extras import need_server
    from mindsight.settings import read_settings

    need_server("mindsight key")
    from service.keys import KeyStore

    return KeyStore(read_settings().data_dir)


def _log(method: str, id: str) -> None:
    """A line of the audit log, as the gateway writes one."""
    from mindsight.files.chain import Chain
    from mindsight.settings import read_settings

    record = {"t": round(time.time(), 3), "key": "-", "role": "operator", "method": method, "route": "/v1/keys"}
    Chain(read_settings().audit_file).append(record | {"of": {"id": id}, "status": 201 if method == "POST" else 204})


def _facts(key: Key) -> dict[str, Any]:
    return key.model_dump(exclude={"sha256"}) | {"purpose": _purpose(key)}


def _purpose(key: Key) -> str:
    from service.keys import PURPOSES

    return PURPOSES[key.role]


def _time(t: float) -> str:
    return datetime.fromtimestamp(t).strftime("%Y-%m-%d %H:%M")
