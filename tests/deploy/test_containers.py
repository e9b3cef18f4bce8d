"""The compose file and the container files fit each other and the code: what they start, copy, set and keep secret."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mindsight.bus import EmbeddedServer
from mindsight.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: one for name, one in COMPOSE["services"].items() if str(one.get("image")).startswith("mindsight/")}
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
INSTRUCTION = re.compile(r"^([A-Z]+) (.*(?:\\\n.*)*)", re.MULTILINE)
HADOLINT = Path(sys.executable).with_name("hadolint")
STAGES = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)


def test_each_profile_is_a_whole_service() -> None:
    for profile in ("cpu", "gpu"):
        started = [one for one in OURS.values() if profile in one.get("profiles", [profile])]
        modules = sorted(one["command"][-1] for one in started)
        assert modules == ["service", "workers.inference", "workers.ingest", "workers.jobs"]
    (card,) = (name for name, one in OURS.items() if "deploy" in one)
    assert COMPOSE["services"][card]["profiles"] == ["gpu"]
    devices = COMPOSE["services"][card]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


@pytest.mark.parametrize("name", OURS)
def test_a_process_of_ours_is_locked_in_and_its_settings_exist(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == "10001:10001"
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not set(service) & {"privileged", "ports", "network_mode", "pid"}
    assert service["build"]["target"] in {stage for _, stage in STAGES}
    assert service["command"][:3] == ["python", "-P", "-m"]
    assert importlib.util.find_spec(service["command"][3]) is not None
    for variable, value in service.get("environment", {}).items():
        assert variable.removeprefix("MINDSIGHT_").lower() in Settings.model_fields, variable
        assert isinstance(value, str), f"{variable} must be a text"
    assert "MINDSIGHT_REDIS_URL" not in service.get("environment", {}), "a secret is a file"


def test_what_is_named_is_declared_and_files_exist() -> None:
    for name, service in COMPOSE["services"].items():
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"]), name
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"]), name
        for needed in service.get("depends_on", {}).values():
            assert needed == {"condition": "service_healthy"}
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], name
    for needed in {one for service in COMPOSE["services"].values() for one in service.get("depends_on", {})}:
        assert "healthcheck" in COMPOSE["services"][needed]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    published = [name for name, service in COMPOSE["services"].items() if "ports" in service]
    assert published == ["proxy"]
    assert re.search(r"reverse_proxy gateway:8420", (ROOT / "deploy" / "Caddyfile").read_text())


def test_a_bucket_is_for_every_process_of_ours_and_leaves_the_rest_as_it_is() -> None:
    added: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "bucket.yml").read_text())
    assert set(added["services"]) == set(OURS)
    for service in added["services"].values():
        assert set(service) == {"build", "env_file", "environment", "networks", "secrets"}
        assert service["build"] == {"args": {"EXTRAS": "s3 ${MINDSIGHT_EXTRAS:-}"}}
        assert service["networks"] == list(added["networks"]) == ["bucket"]
        (secret,) = service["secrets"]
        assert service["environment"] == {"AWS_SHARED_CREDENTIALS_FILE": f"/run/secrets/{secret}"}
        kept = (added["secrets"][secret]["file"], *service["env_file"])
        assert all(name.startswith("deploy/secrets/") for name in kept), "git ignores that folder"


def test_every_image_takes_the_extras_that_a_service_may_have() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    installing = [stage for stage in stages if "pip install" in stage and "-r lock.txt" in stage]
    assert len(installing) == 3
    for stage in installing:
        (copied,) = re.findall(r"^COPY (deploy/locks/s3\.txt .*) \./$", stage, re.MULTILINE)
        assert re.findall(r"locks/(\w+)\.txt", copied) == ["s3", "otel", "oidc"]
        assert 'ARG EXTRAS=""' in stage
    for name in OURS:
        assert COMPOSE["services"][name]["build"]["args"] == {"EXTRAS": "${MINDSIGHT_EXTRAS:-}"}, name


def test_secrets_are_new_each_time_and_never_written_over(tmp_path: Path) -> None:
    made = runpy.run_path(str(ROOT / "deploy" / "new_secrets.py"))
    assert made["main"](tmp_path / "one") == made["main"](tmp_path / "two") == 0
    texts = [(tmp_path / name / "bus.conf").read_text() for name in ("one", "two")]
    assert texts[0] != texts[1]
    assert (tmp_path / "one").stat().st_mode & 0o077 == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        Path(secret["file"]).name for secret in COMPOSE["secrets"].values()
    }
    assert made["main"](tmp_path / "one") == 1
    assert (tmp_path / "one" / "bus.conf").read_text() == texts[0]
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_container_file_copies_what_is_there_and_ends_without_root() -> None:
    known: set[str] = set()
    for image, stage in STAGES:
        assert image in known or re.fullmatch(r"python:3\.11-slim", image), image
        known.add(stage)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for kind, rest in INSTRUCTION.findall(DOCKERFILE):
        words = shlex.split(rest.replace("\\\n", " ")) if kind == "COPY" else []
        if kind == "COPY" and words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in known
        elif kind == "COPY":
            for source in words[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == one or source.startswith(f"{one}/") for one in allowed), f"{source} is ignored"
        assert not (
            kind == "RUN" and "pip install" in rest and "-r lock.txt" in rest and "--require-hashes" not in rest
        )
        assert kind != "ADD"
    last = DOCKERFILE.split("\nFROM ")
    for stage in ("gateway", "worker-cpu", "worker-gpu"):
        (text,) = (part for part in last if part.startswith(f"process AS {stage}\n"))
        assert "USER" not in text, "the user of the stage before stays"
    assert "USER 10001:10001" in DOCKERFILE


@pytest.mark.parametrize("files", [["docker-compose.yml"], ["deploy/bucket.yml"]])
def test_compose_files_are_of_its_specification(files: list[str]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not HADOLINT.exists(), reason="needs hadolint, whose package is for Linux on x86-64")
def test_hadolint_finds_nothing_in_the_container_file() -> None:
    done = subprocess.run([HADOLINT, "deploy/Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_a_lock_comes_apart_into_torch_and_the_rest() -> None:
    script = [sys.executable, str(ROOT / "deploy" / "without_torch.py")]
    lock = str(ROOT / "deploy" / "locks" / "server.txt")
    versions, rest = (
        subprocess.run([*script, part, lock], capture_output=True, text=True, check=True).stdout
        for part in ("versions", "rest")
    )
    assert re.fullmatch(r"torch==2\.13\.0\ntorchvision==\S+\n", versions)
    names = re.findall(r"^([a-z0-9-]+)==", rest, re.MULTILINE)
    assert {"diffusers", "numpy", "scipy"} <= set(names)
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]


def test_a_secret_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mindsight_redis_url").write_text("redis://:secret@bus:6379/0")
    assert Settings(_secrets_dir=tmp_path).redis_url == "redis://:secret@bus:6379/0"
    monkeypatch.setenv("MINDSIGHT_REDIS_URL", "redis://other:6379")
    assert Settings(_secrets_dir=tmp_path).redis_url == "redis://other:6379"


def test_the_gateway_starts_and_is_healthy_as_the_file_says(tmp_path: Path) -> None:
    service = OURS["gateway"]
    environment = {**os.environ, **service["environment"], "MINDSIGHT_HOST": "127.0.0.1", "MINDSIGHT_PORT": "0"}
    settings = Settings(data_dir=tmp_path / "data")
    environment["MINDSIGHT_DATA_DIR"] = str(settings.data_dir)
    with EmbeddedServer(settings):
        process = subprocess.Popen(
            [sys.executable, *service["command"][1:]], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            url = next(line for line in process.stdout if "ready at" in line).split()[-1]
            check = service["healthcheck"]["test"][3].replace("http://127.0.0.1:8420", url)
            subprocess.run([sys.executable, "-c", check], check=True, timeout=20)
        finally:
            process.terminate()
            assert process.wait(20) == 0
            process.stdout.close()
