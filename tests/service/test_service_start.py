"""What the gateway does before its first request."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from mindsight.settings import Settings
from service.app import create_app


def test_what_killed_writers_left_a_day_ago_is_removed(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    incoming = settings.blobs_dir / "incoming"
    incoming.mkdir(parents=True)
    for name, age_s in (("left", 90_000.0), ("being-written", 80_000.0)):
        (incoming / name).write_bytes(b"half of a volume")
        written_t = time.time() - age_s
        os.utime(incoming / name, (written_t, written_t))
    app = create_app(settings)

    async def start() -> list[str]:
        async with app.router.lifespan_context(app):
            return [path.name for path in incoming.iterdir()]

    assert asyncio.run(start()) == ["being-written"]


def test_a_gateway_that_is_stopped_while_it_starts_stops(tmp_path: Path) -> None:
    """The signal comes when the address is written, which is before the server listens to signals itself."""
    code = (
        "import os, signal, sys; from service import __main__ as gateway\n"
        "def announce(*arguments, original=gateway._announce):\n"
        "    path = original(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return path\n"
        "gateway._announce = announce\n"
        "sys.exit(gateway.main(['--port', '0']))"
    )
    environment = {**os.environ, "MINDSIGHT_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "ready at" in done.stdout
    assert not (tmp_path / "gateway.json").exists()


NUMERICAL = {
    "torch", "torchvision", "scipy", "numba", "nibabel", "pandas", "h5py", "safetensors", "PIL", "pydicom",
    "pynetdicom", "numpy", "diffusers", "transformers", "open_clip", "onnxruntime", "matplotlib", "nilearn", "sklearn",
}  # fmt: skip
OF_A_BUCKET = {"s3fs", "fsspec", "aiobotocore", "botocore", "aiohttp"}


def test_the_gateway_imports_none_of_the_numerical_stack() -> None:
    """Not even while it makes its routes. What draws a view or reads a mask imports numpy in its own thread; what a
    bucket needs is imported where one is named.
    """
    code = """
import pathlib, sys, tempfile
from mindsight.settings import Settings
from service.__main__ import create_app
create_app(Settings(data_dir=pathlib.Path(tempfile.mkdtemp())))
print(*{name.partition(".")[0] for name in sys.modules})
"""
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (NUMERICAL | OF_A_BUCKET) & set(found.stdout.split()) == set()
