"""Whether this machine can run Mindsight: one line for each thing that is checked."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from mindsight.errors import MindsightError
from mindsight.extras import missing
from mindsight.settings import Settings, read_settings

MIN_FREE_GB = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, whether it is well, and what was found or what to do."""

    what: str
    ok: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.what}: {self.text}"


def examine() -> list[Finding]:
    """Check everything. Writes nothing but a file in the data folder, which it removes.

    Raises BadRequest (``settings.invalid``).
    """
    settings = read_settings()
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", lambda: sys.version.split()[0]),
        ("cores", lambda: f"{os.cpu_count()} cores"),
        ("data folder", lambda: _data_folder(settings)),
    ]
    if missing():
        checks.append(("service", _no_service))
    else:
        checks += [
            ("torch", _torch),
            ("device", lambda: _device(settings)),
            ("open_clip", _open_clip),
            ("bus server", lambda: _bus(settings)),
            ("demo models", _models),
            *_inference(settings),
        ]
    findings = []
    for what, check in checks:
        try:
            findings.append(Finding(what, True, check()))
        except (MindsightError, OSError, ImportError, RuntimeError) as error:
            findings.append(Finding(what, False, str(error)))
    return findings


def _no_service() -> str:
    return 'not installed; this machine can stream and inspect. For the service: pip install "mindsight[server]"'


def _inference(settings: Settings) -> list[tuple[str, Callable[[], str]]]:
    from mindsight.operations.inference_check import InferenceCheck

    check = InferenceCheck(settings)
    return [
        ("generator", check.generator),
        ("captions", check.captions),
        ("refinement", check.refinement),
        ("bundles", check.bundles),
    ]


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


def _bus(settings: Settings) -> str:
    from mindsight.bus.embedded import find_server

    if settings.redis_url != "embedded://":
        return "an external server, named in MINDSIGHT_REDIS_URL"
    return os.path.basename(find_server(settings))


def _data_folder(settings: Settings) -> str:
    folder = settings.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".doctor"
    probe.write_bytes(b"mindsight")
    probe.unlink()
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < MIN_FREE_GB:
        raise RuntimeError(
            f"expected {MIN_FREE_GB:.0f} GB free for a session, got {free_gb:.1f}: free some, or set MINDSIGHT_DATA_DIR"
        )
    return f"{folder}, {free_gb:.0f} GB free"


def _models() -> str:
    from mindsight import assets
    from mindsight.encoders.demo import DemoEncoder
    from mindsight.generators.unclip.demo import DemoGenerator
    from mindsight.subjects.bundle.folder import Bundle

    DemoEncoder.load(assets.ENCODER)
    DemoGenerator.load(assets.GENERATOR)
    Bundle.load(assets.BUNDLE)
    return "encoder, generator and bundle match their manifests"
