"""open_clip, transformers and diffusers import beside the torch that is installed, whichever comes first."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "first", ["open_clip", "transformers.models.clip", "diffusers.models", "torchvision.transforms"]
)
def test_libraries_that_look_for_torchvision_import(first: str) -> None:
    program = (
        f"import mindsight, {first}, open_clip; from transformers import CLIPVisionModel; print(open_clip.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_torch_is_not_imported_before_somebody_looks_for_torchvision() -> None:
    program = "import sys, mindsight; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
