"""open_clip, transformers and diffusers import beside the torch that is installed, whichever comes first."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIBRARIES = ("open_clip", "transformers.models.clip", "diffusers.models", "torchvision.transforms")

# Each library is the first of a process to look for torchvision. The processes are forks of one that has imported,
# once for all of them, what these libraries share and what looks for no torchvision.
PROGRAM = """
import importlib, os, sys, traceback

class Watch:
    looked = []
    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            self.looked.append(fullname)

import mindsight
sys.meta_path.insert(0, Watch())
import torch, torch._dynamo, scipy.stats, sklearn, ftfy
assert Watch.looked == [], "what is imported for all of them has looked for torchvision"
assert not {"torchvision", "open_clip", "transformers", "diffusers"} & set(sys.modules)

def import_first(first):
    importlib.import_module(first)
    assert Watch.looked, "it did not look for torchvision"
    import open_clip
    from transformers import CLIPVisionModel
    assert open_clip.__version__

for first in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            import_first(first)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(first, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow  # in short: the tests of encoders and generators import them
def test_libraries_that_look_for_torchvision_import() -> None:
    command = [sys.executable, "-c", PROGRAM, *LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [f"{library} 0" for library in LIBRARIES], done.stderr
    assert done.returncode == 0, done.stderr


def test_torch_is_not_imported_before_torchvision_is_imported() -> None:
    program = "import sys, mindsight; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
