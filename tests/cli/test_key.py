"""``mindsight key`` on a data folder, beside a gateway that holds the same keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mindsight.cli.main import app
from mindsight.errors import BadRequest, NotAllowed, NotFound
from mindsight.files.chain import Chain
from mindsight.settings import Settings
from service.keys import ROLES, KeyStore, create_keys


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["key", *arguments], env={"MINDSIGHT_DATA_DIR": str(folder)})


def test_a_key_is_made_listed_and_revoked_while_the_gateway_runs(tmp_path: Path) -> None:
    assert "no keys yet" in run(tmp_path, "list").stdout
    create_keys(tmp_path)
    gateway = KeyStore(tmp_path)
    made = run(tmp_path, "new", "console", "--note", "stimulus computer, room 2")
    text = made.stdout.splitlines()[0]
    assert "sends volumes and events" in made.stdout
    key = gateway.check(text)
    assert (key.role, key.note) == ("console", "stimulus computer, room 2")

    listed = run(tmp_path, "list").stdout
    assert f"{key.id}  console" in listed
    assert "stimulus computer, room 2" in listed
    assert len(listed.splitlines()) == 2 + len(ROLES)
    assert text.split("_", 2)[2] not in listed

    assert run(tmp_path, "revoke", text).exit_code == 0
    assert not gateway.is_valid(key)
    with pytest.raises(NotAllowed):
        gateway.check(text)
    assert isinstance(run(tmp_path, "revoke", key.id).exception, NotFound)

    log = [link.record for link in Chain(Settings(data_dir=tmp_path).audit_file).verify()]
    assert [(line["method"], line["of"]) for line in log] == [("POST", {"id": key.id}), ("DELETE", {"id": key.id})]


def test_two_processes_that_make_keys_lose_none(tmp_path: Path) -> None:
    stores = [KeyStore(tmp_path), KeyStore(tmp_path)]
    ids = {stores[k % 2].mint("viewer")[0].id for k in range(6)}
    assert {key.id for key in stores[0].list()} == {key.id for key in stores[1].list()} == ids


def test_a_new_key_opens_the_dashboard_of_the_service_that_runs(tmp_path: Path) -> None:
    (tmp_path / "gateway.json").write_text('{"url": "http://127.0.0.1:8420", "pid": 1}')
    made = json.loads(run(tmp_path, "new", "viewer", "--json").stdout)
    assert made["dashboard"] == f"http://127.0.0.1:8420/#key={made['key']}"
    assert "sha256" not in made
    assert KeyStore(tmp_path).check(made["key"]).role == "viewer"
    assert "dashboard" not in json.loads(run(tmp_path, "new", "console", "--json").stdout)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_can_be_given(tmp_path: Path, role: str) -> None:
    assert json.loads(run(tmp_path, "new", role, "--json").stdout)["purpose"]


def test_damaged_keys_are_one_line_and_never_end_what_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gateway = KeyStore(tmp_path)
    _, text = gateway.mint("viewer")
    path = tmp_path / "keys.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert gateway.check(text).role == "viewer"
    assert "expected keys in keys.json, got a file that is damaged" in capsys.readouterr().err
    refused = run(tmp_path, "list").exception
    assert isinstance(refused, BadRequest)
    assert refused.__suppress_context__, "what is in them is in no log"
    path.write_bytes(whole)
    assert KeyStore(tmp_path).check(text).role == "viewer"
