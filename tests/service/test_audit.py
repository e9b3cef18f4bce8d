"""Who did what is in the log, what was read or measured is not, and no body is."""

from __future__ import annotations

import httpx
import pytest

from mindsight.cli import main
from mindsight.files.chain import Chain
from support.gateway_harness import Running, payload


def test_changes_and_refusals_are_in_the_log_and_nothing_that_was_sent(running: Running, admin: httpx.Client) -> None:
    chain = Chain(running.settings.audit_file)
    before = len(list(chain.verify()))
    subject = admin.post("/v1/subjects", json={"bundle": "bundle-1"}).json()["subject"]
    session = admin.post("/v1/sessions", json={"subject": subject}).json()["session"]
    run = {"run": 1, "task": "SEEDTASK", "tr_s": 2.0, "n_volumes": 2}
    assert admin.post(f"/v1/sessions/{session}/runs", json=run).is_success
    assert admin.post(f"/v1/sessions/{session}/close").is_success
    admin.put(f"/v1/sessions/{session}/runs/1/volumes/0", content=payload(0))
    admin.get(f"/v1/sessions/{session}")
    with running.client("viewer") as viewer:
        assert viewer.post("/v1/keys", json={"role": "admin"}).status_code == 403
    with running.client(None) as nobody:
        assert nobody.post("/v1/keys", json={"role": "admin"}).status_code == 401
    assert admin.delete(f"/v1/keys/{'x' * 20_000}").status_code in (404, 422)  # too long for a line: cut off
    records = [link.record for link in chain.verify()][before:]
    assert [(one["role"], one["method"], one["route"], one["status"]) for one in records] == [
        ("admin", "POST", "/v1/subjects", 201),
        ("admin", "POST", "/v1/sessions", 201),
        ("admin", "POST", "/v1/sessions/{session}/runs", 201),
        ("admin", "POST", "/v1/sessions/{session}/close", 200),
        ("viewer", "POST", "/v1/keys", 403),
        ("admin", "DELETE", "/v1/keys/{id}", 404),
    ]
    assert records[2]["of"] == {"session": session}
    text = chain.path.read_text()
    assert "SEEDTASK" not in text
    assert not any(key in text for key in running.keys.values())


def test_the_last_lines_are_told_where_the_last_one_was_begun_only(running: Running, admin: httpx.Client) -> None:
    chain = Chain(running.settings.audit_file)
    for _ in range(2):
        assert admin.post("/v1/subjects").is_success
    told = admin.get("/v1/service/audit?last=2").json()
    with chain.path.open("ab") as file:
        file.write(b'{"number"')
    assert admin.get("/v1/service/audit?last=2").json() == told
    assert [line["digest"] for line in reversed(told)] == [link.digest for link in list(chain.verify())[-2:]]
    assert admin.post("/v1/subjects").is_success
    assert admin.get("/v1/service/audit?last=2").json()[1] == told[0]


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["mindsight", "audit", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_verifies_and_finds_what_was_cut_off(
    running: Running, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINDSIGHT_DATA_DIR", str(running.settings.data_dir))
    admin.post("/v1/subjects", json={})
    assert command("verify", monkeypatch=monkeypatch) == 0
    noted = capsys.readouterr().out.split()[-1]
    assert command("verify", "--expect", noted, monkeypatch=monkeypatch) == 0
    assert command("show", monkeypatch=monkeypatch) == 0
    assert "POST /v1/subjects" in capsys.readouterr().out
    path = running.settings.audit_file
    whole = path.read_bytes()
    try:
        path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
        assert command("verify", "--expect", noted, monkeypatch=monkeypatch) == 1
        assert "cut off" in capsys.readouterr().err
        path.write_bytes(whole.replace(b'"admin"', b'"viewer"', 1))
        assert command("verify", monkeypatch=monkeypatch) == 1
        assert "audit.broken" in capsys.readouterr().err
    finally:
        path.write_bytes(whole)
    assert command("verify", "--expect", "what", monkeypatch=monkeypatch) == 1
