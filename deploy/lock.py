"""``python deploy/lock.py``: what each install brings, every file with its sha256, for all systems and Pythons at once.

``deploy/locks/NAME.txt`` is for ``pip install --require-hashes -r``. Versions are those of ``constraints.txt``, which
the tests run with; what an extra adds that is not installed for the tests is pinned here first.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS: dict[str, tuple[str, ...]] = {
    "base": (),
    "gateway": ("gateway",),
    "server": ("server",),
    "docs": ("docs",),
    "report": ("server", "report"),
    "onnx": ("server", "onnx"),
    "otel": ("otel",),
    "oidc": ("oidc",),
    "s3": ("s3",),
    "encryption": ("encryption",),
    "tensorrt": ("server", "tensorrt"),
    "dev": ("dev",),
    "bench": ("dev", "bench"),
    "release": ("release",),
    "chart": ("chart",),
    "bucket": ("bucket",),
}
OLDEST = dict.fromkeys(("base", "encryption"), "3.10") | dict.fromkeys(("docs", "dev", "bench"), "3.11.5")
"""A console's; the site's and what holds it; the others need what the service needs."""
HEAD = "# {what}: made by `make lock`; do not edit\n"


def main() -> int:
    for name, extras in LOCKS.items():
        what = f"mindsight[{','.join(extras)}]" if extras else "mindsight"
        options = [option for extra in extras for option in ("--extra", extra)]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *options),
                *("--generate-hashes", "--constraint", "constraints.txt", "--universal", "--no-emit-index-url"),
                *("--no-header", "--no-annotate", "--quiet", "--python-version", OLDEST.get(name, "3.11")),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            return done.returncode
        (ROOT / "deploy" / "locks" / f"{name}.txt").write_text(HEAD.format(what=what) + done.stdout)
        print(f"{name}: {done.stdout.count('==')} pins, {done.stdout.count('sha256:')} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
