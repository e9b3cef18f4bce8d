"""Files of ``torch.save``: no code in them is run, whatever they hold and however old they are."""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mindsight.errors import ModelMismatch
from mindsight.weights.torchfile import Unread, read_torch_file, read_torch_object


class Harmful:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


class Schedule:
    """What a training script may leave beside its weights."""

    def __init__(self) -> None:
        self.rate = 0.1


@pytest.mark.parametrize("read", [read_torch_file, read_torch_object])
def test_code_is_refused_and_not_run(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    torch.save({"weight": torch.ones(2), "harm": Harmful(tmp_path / "made")}, tmp_path / "last.pth")
    with pytest.raises(ModelMismatch):
        read(tmp_path / "last.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("read", [read_torch_file, read_torch_object])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_file_whose_records_state_more_than_it_has_is_refused_unread(
    tmp_path: Path, read: Callable[[Path], Any], is_packed: bool
) -> None:
    """Torch would take 4 GB for a size in the directory; and unpack what is compressed."""
    path = tmp_path / "last.pth"
    torch.save({"weight": torch.zeros(100_000)}, path)
    content = path.read_bytes()
    if is_packed:
        with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in whole.namelist():
                packed.writestr(name, whole.read(name))
    else:
        at = content.index(b"PK\x01\x02") + 24  # of the first entry in the directory: its size
        path.write_bytes(content[:at] + b"\xf0\xff\xff\xff" + content[at + 4 :])
    with pytest.raises(ModelMismatch, match="records state"):
        read(path)


@pytest.mark.parametrize("read", [read_torch_file, read_torch_object])
@pytest.mark.parametrize("is_zip", [False, True])
def test_a_name_without_end_is_refused_at_once(tmp_path: Path, read: Callable[[Path], Any], is_zip: bool) -> None:
    """Torch would look through the text of its own error, which takes the square of the name's length."""
    path = tmp_path / "last.pth"
    pickled = b"\x80\x02cos\n" + b"n" * 1_000_000 + b"\n."
    if is_zip:
        torch.save({}, path)
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as whole, zipfile.ZipFile(path, "w") as changed:
            for name in whole.namelist():
                changed.writestr(name, pickled if name.endswith("/data.pkl") else whole.read(name))
    else:
        path.write_bytes(pickled)
    began_s = time.monotonic()
    with pytest.raises(ModelMismatch, match="a name of"):
        read(path)
    assert time.monotonic() - began_s < 5.0


@pytest.mark.parametrize("read", [read_torch_file, read_torch_object])
def test_a_file_that_was_saved_without_checksums_is_read(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": torch.ones(2)}, tmp_path / "last.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    with zipfile.ZipFile(tmp_path / "last.pth") as archive:
        assert archive.testzip() is not None, "which zipfile would refuse"
    assert torch.equal(read(tmp_path / "last.pth")["weight"], torch.ones(2))


def test_an_object_of_a_training_script_is_replaced_and_the_weights_are_read(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2), "schedule": Schedule()}, tmp_path / "last.pth")
    held = read_torch_file(tmp_path / "last.pth")
    assert torch.equal(held["weight"], torch.ones(2))
    assert isinstance(held["schedule"], Unread)
    with pytest.raises(ModelMismatch, match="cannot be read"):
        read_torch_object(tmp_path / "last.pth")


def test_old_files_are_read_where_they_hold_tensors_alone(tmp_path: Path) -> None:
    torch.save([torch.ones(2)], tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_torch_object(tmp_path / "old.pth")[0], torch.ones(2))
    with pytest.raises(ModelMismatch) as error:
        read_torch_object(Path(__file__), code="weights.mine")
    assert error.value.code == "weights.mine"
