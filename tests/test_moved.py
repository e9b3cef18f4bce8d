"""Old module names give the new modules' names, with a warning; the record of decisions lists the same moves."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mindsight.moved import MOVED
from mindsight.retrieval import CandidatePool, Ranking

RECORD = Path(__file__).parents[1] / "docs" / "adr" / "0005-the-house.md"
OLD = {
    "mindsight.supervisor": "environment",
    "mindsight.replay": "number_trials",
    "mindsight.demo": "PARTICIPANT",
    "mindsight.protocol.volume_codec": "encode_volume",
    "mindsight.ingest.placement": "Placement",
    "mindsight.mindeye.losses": "soft_clip",
    "mindsight.scanner.recorded": "open_run",
    "mindsight.scanner.transports.assemble": "Assembler",
    "mindsight.evaluation.answers": "read_answers",
}
STAYED = {
    "mindsight.encoders.sources": ("FolderPictures", "FolderImages"),
    "mindsight.evaluation.inputs": ("read_answers", "read_outputs"),
    "mindsight.evaluation.metrics.resize": ("as_pictures", "as_unit_images"),
    "mindsight.evaluation.records": ("Answers", "Outputs"),
    "mindsight.operations.replay": ("answers", "replay_results"),
}


@pytest.mark.parametrize(("module", "name"), OLD.items())
def test_an_old_name_is_the_new_one_and_a_warning(module: str, name: str) -> None:
    sys.modules.pop(module, None)
    with pytest.warns(DeprecationWarning, match=r"is now mindsight\.") as warned:
        old = importlib.import_module(module)
    assert any(str(warning.message).startswith(f"{module} is now mindsight.") for warning in warned)
    found = getattr(old, name)
    assert found.__module__.startswith("mindsight.") if hasattr(found, "__module__") else found
    with pytest.raises(AttributeError, match=r"has no attribute 'never_there'; it is now mindsight\."):
        _ = old.never_there


@pytest.mark.parametrize(("module", "names"), STAYED.items())
def test_an_old_name_in_a_module_that_stayed(module: str, names: tuple[str, str]) -> None:
    old, new = names
    held = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=rf"^{re.escape(module)}\.{old} is now {new}: ") as warned:
        assert getattr(held, old) is getattr(held, new)
    assert warned[0].filename == __file__
    with pytest.raises(AttributeError, match="has no attribute 'never_there'"):
        _ = held.never_there


def test_an_old_attribute_is_the_new_one_and_a_warning() -> None:
    pool = CandidatePool(("a", "b"), np.zeros((2, 3), np.float32))
    with pytest.warns(DeprecationWarning, match=r"^CandidatePool\.place is now index_of: ") as warned:
        assert pool.place("b") == 1
    assert warned[0].filename == __file__
    ranking = Ranking(np.array([1, 0]), np.zeros(2, np.float32))
    with pytest.warns(DeprecationWarning, match=r"^Ranking\.places_K is now indices_K: "):
        assert ranking.places_K is ranking.indices_K


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mindsight.never_there")


def test_every_move_leads_from_no_file_to_one_that_is_there() -> None:
    root = Path(importlib.import_module("mindsight").__path__[0])
    for old, new in MOVED.items():
        assert not (root / f"{old.replace('.', '/')}.py").exists(), f"{old} is still there"
        for name in new.split():
            path = root / name.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), f"{name} is not there"


def test_the_record_of_decisions_lists_every_module_that_moved() -> None:
    listed = set(re.findall(r"^\| `mindsight\.([\w.]+)`", RECORD.read_text(), re.MULTILINE))
    of_a_package = {name for name in MOVED if name.startswith("mindeye.")}  # listed as a whole
    assert set(MOVED) - of_a_package <= listed


def test_an_old_name_loads_nothing_until_it_is_used() -> None:
    program = "import sys, mindsight.mindeye; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
    assert find_spec("mindsight.decoders.mindeye2") is not None
