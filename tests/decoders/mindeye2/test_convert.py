"""Released files become a folder of safetensors: every layout, every container, no code run, little memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from mindsight import assets
from mindsight.cli import app
from mindsight.decoders.mindeye2 import Layout, MindEye2, PriorLayout, convert_mindeye2, load_mindeye2, read_state_dict
from mindsight.decoders.mindeye2.convert import MANIFEST, WEIGHTS
from mindsight.errors import Conflict, ModelMismatch, StorageFull
from support.listing import at_an_eighth, random_state, released

# Conversions in a process of their own. The first may not write more than 5 MB into a file; of the second is measured
# what a large file adds to the memory that a small one took, with all imports.
ELSEWHERE = """
import os, resource, signal, sys
from pathlib import Path
from mindsight.decoders.mindeye2 import convert_mindeye2
def peak(): return int([l for l in open("/proc/self/status") if l.startswith("VmHWM")][0].split()[1]) * 1024
limited, large, small = map(Path, sys.argv[1:])
if not os.fork():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))
    try: convert_mindeye2(limited, limited.parent / "here" / "out")
    except Exception as error: print(type(error).__name__, error, flush=True)
    os._exit(0)
os.wait()
convert_mindeye2(small, small.parent / "out-small")
before = peak()
convert_mindeye2(large, large.parent / "out")
print(peak() - before)
"""


@pytest.fixture(scope="module")
def eighth(shared: Path) -> dict[str, Tensor]:
    return random_state(at_an_eighth(released(shared, "A")))


@pytest.fixture(scope="module")
def checkpoint(eighth: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``last.pth`` as the reference's training script writes it, with an optimizer in it."""
    path = tmp_path_factory.mktemp("released") / "last.pth"
    parameter = torch.nn.Parameter(torch.zeros(300, 100))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, 10)
    torch.save(
        {
            "epoch": 149,
            "model_state_dict": OrderedDict(eighth),
            "optimizer_state_dict": optimizer.state_dict(),
            "lr_scheduler": schedule.state_dict(),
            "train_losses": [1.0],
            "test_losses": [2.0],
            "lrs": [3e-4],
        },
        path,
    )
    return path


@pytest.mark.slow
def test_the_full_layout_at_an_eighth(checkpoint: Path, eighth: dict[str, Tensor], tmp_path: Path) -> None:
    assert len(eighth) == 249
    converted = convert_mindeye2(checkpoint, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [MANIFEST, WEIGHTS]
    assert converted.source_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    kept = load_file(tmp_path / "out" / WEIGHTS)
    assert len(converted.dropped) == 13
    assert set(kept) == set(eighth) - set(converted.dropped)
    assert all(torch.equal(tensor, eighth[key]) for key, tensor in kept.items())
    ours, theirs = load_mindeye2(tmp_path / "out"), load_mindeye2(checkpoint)
    assert ours.layout == theirs.layout
    assert ours.layout.lowlevel
    assert (ours.layout.hidden, ours.layout.tokens, ours.layout.dim) == (512, 32, 208)
    voxels = torch.randn(2, 1965, generator=torch.Generator().manual_seed(1))
    for a, b in zip(ours.tokens(voxels), theirs.tokens(voxels), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(("section", "keys", "subjects"), [("B", 161, 7), ("B2", 149, 1)])
def test_layouts_without_lowlevel_head_and_with_many_subjects(
    shared: Path, tmp_path: Path, section: str, keys: int, subjects: int
) -> None:
    state = random_state(at_an_eighth(released(shared, section)))
    assert len(state) == keys
    torch.save({"model_state_dict": state}, tmp_path / "last.pth")
    converted = convert_mindeye2(tmp_path / "last.pth", tmp_path / "out")
    assert len(converted.subjects) == subjects
    assert converted.layout["lowlevel"] is False
    assert load_mindeye2(tmp_path / "out").layout == load_mindeye2(state).layout


@pytest.mark.parametrize(
    "layout",
    [
        Layout(voxels=(11,), hidden=24, tokens=3, dim=10, n_blocks=1),
        pytest.param(
            Layout(voxels=(5, 9, 7), hidden=16, tokens=6, dim=12, n_blocks=7, lowlevel=True), marks=pytest.mark.slow
        ),
        Layout(
            voxels=(30, 20),
            hidden=8,
            tokens=2,
            dim=36,
            n_blocks=2,
            prior=PriorLayout(depth=1, heads=3, dim_head=12, inner=20),
        ),
        Layout(voxels=(6,), hidden=40, tokens=5, dim=64, prior=PriorLayout(depth=9, heads=1, dim_head=64, inner=7)),
    ],
)
def test_every_dimension_is_read_off_the_file(layout: Layout, tmp_path: Path) -> None:
    state = MindEye2(layout).state_dict()
    torch.save({"model_state_dict": state}, tmp_path / "last.pth")
    converted = convert_mindeye2(tmp_path / "last.pth", tmp_path / "out")
    loaded = load_mindeye2(tmp_path / "out")
    assert loaded.layout == layout
    assert len(converted.subjects) == len(layout.voxels)
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.state_dict().items())


def test_the_manifest_names_the_subjects_by_their_voxels(weights: dict[str, Tensor], tmp_path: Path) -> None:
    wide = {**weights, "ridge.linears.0.weight": torch.zeros(48, 15226)}
    torch.save(wide, tmp_path / "last.pth")
    convert_mindeye2(tmp_path / "last.pth", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["subjects"] == [
        {"index": 0, "voxels": 15226, "nsd": 3},
        {"index": 1, "voxels": 29, "nsd": None},
    ]


@pytest.mark.parametrize(("name", "dtype"), [("float16", torch.float16), ("bfloat16", torch.bfloat16)])
def test_the_command_line_at_half_precision(checkpoint: Path, tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["convert", "mindeye2", str(checkpoint), str(out), "--dtype", name])
    assert result.exit_code == 0, result.output
    assert "1 subject" in result.output
    held = load_file(out / WEIGHTS)
    assert {t.dtype for key, t in held.items() if not key.endswith("freqs")} == {dtype}
    assert {t.dtype for key, t in held.items() if key.endswith("freqs")} == {torch.float32}
    expected = load_mindeye2(checkpoint, dtype).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in load_mindeye2(out, dtype).state_dict().items())
    assert (out / WEIGHTS).stat().st_size < 0.51 * checkpoint.stat().st_size


def without_lowlevel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    head = ("backbone.blin1", "backbone.bnorm", "backbone.bupsampler", "backbone.b_maps_projector")
    return {key: tensor for key, tensor in state.items() if not key.startswith(head)}


@pytest.fixture(scope="module", params=[80, pytest.param(200, marks=pytest.mark.slow)])
def elsewhere(
    request: pytest.FixtureRequest, weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, list[str], int]]:
    """A folder with ``large.pth``, ``limited.pth`` and ``small.pth``, a line from each of ELSEWHERE's parts, and:

    megabytes of weights in large.pth; it has half as much of optimizer, too
    """
    megabytes = request.param
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "here").mkdir()
    many, small = megabytes * 250_000 // 48, without_lowlevel(weights)
    optimizer = {"state": {0: {"exp_avg": torch.zeros(48, many // 2)}}}
    wide = {**small, "ridge.linears.0.weight": torch.zeros(48, many)}
    torch.save({"model_state_dict": wide, "optimizer_state_dict": optimizer}, folder / "large.pth")
    torch.save({**small, "ridge.linears.0.weight": torch.zeros(48, 100_000)}, folder / "limited.pth")
    torch.save(small, folder / "small.pth")
    arguments = [str(folder / f"{name}.pth") for name in ("limited", "large", "small")]
    run = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *arguments], check=True, capture_output=True, text=True, timeout=120
    )
    yield folder, run.stdout.splitlines(), megabytes
    shutil.rmtree(folder)


@pytest.mark.slow
def test_memory_stays_below_the_file(elsewhere: tuple[Path, list[str], int]) -> None:
    """1.3 times the file is what is promised.

    What is needed is less: the mapped weights as they are read, one piece of the result, nothing of the optimizer.
    """
    folder, lines, megabytes = elsewhere
    size = (folder / "large.pth").stat().st_size
    assert size > 1.5e6 * megabytes
    assert int(lines[1]) < 0.75 * size


class Foreign:
    """A class of a training script."""

    def __init__(self) -> None:
        self.scale = 3


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return touch, (str(self.marker),)


def touch(path: str) -> None:
    Path(path).touch()


class Shell:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def test_foreign_objects_cost_nothing_and_do_nothing(
    checkpoint: Path, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    torch.save({"lr_scheduler": Foreign(), "x": Evil(marker), "model_state_dict": weights}, tmp_path / "last.pth")
    state = read_state_dict(tmp_path / "last.pth")
    assert not marker.exists()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in state.items())
    assert len(state) == len(weights)


def test_a_file_that_asks_for_the_operating_system_is_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"x": Shell(), "model_state_dict": weights}, tmp_path / "last.pth")
    with pytest.raises(ModelMismatch, match="without running code") as raised:
        load_mindeye2(tmp_path / "last.pth")
    assert raised.value.code == "checkpoint.unreadable"


def test_a_pickle_with_any_damage_is_read_or_refused(tmp_path: Path) -> None:
    """Each byte of a small file's pickle changed in turn."""
    torch.save({"model_state_dict": {"a": torch.ones(2)}}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    pickle = next(name for name in members if name.endswith("data.pkl"))
    refused = 0
    for place in range(len(members[pickle])):
        damaged = bytearray(members[pickle])
        damaged[place] ^= 0x15
        with zipfile.ZipFile(tmp_path / "damaged.pth", "w") as file:
            for name, content in (members | {pickle: bytes(damaged)}).items():
                file.writestr(name, content)
        try:
            read_state_dict(tmp_path / "damaged.pth")
        except ModelMismatch as error:
            refused += error.code == "checkpoint.unreadable"
    assert refused > len(members[pickle]) // 2


def test_files_that_are_none(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save(weights, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-5000])
    (tmp_path / "folder").mkdir()
    wrong = {
        "old.pth": "unreadable",
        "list.pth": "unreadable",
        "cut.pth": "unreadable",
        "no.pth": "missing",
        "folder": "missing",
    }
    for name, code in wrong.items():
        with pytest.raises(ModelMismatch, match=name) as raised:
            convert_mindeye2(tmp_path / name, tmp_path / "out")
        assert raised.value.code == f"checkpoint.{code}"
        assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_what_could_not_be_converted(weights: dict[str, Tensor], tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    large = {**weights, "backbone.clip_proj.2.bias": torch.full((104,), 1e6)}
    torch.save(large, tmp_path / "last.pth")
    with pytest.raises(ModelMismatch, match=r"clip_proj\.2\.bias .* F16"):
        convert_mindeye2(tmp_path / "last.pth", folder / "out", torch.float16)
    assert os.listdir(folder) == []
    convert_mindeye2(tmp_path / "last.pth", folder / "out")
    with pytest.raises(Conflict, match="out exists"):
        convert_mindeye2(tmp_path / "last.pth", folder / "out")
    assert os.listdir(folder) == ["out"]


@pytest.mark.slow
def test_a_disk_without_room(elsewhere: tuple[Path, list[str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Full from the start, and full while it is written: a file of that process cannot grow beyond the limit."""
    folder, lines, _ = elsewhere
    with monkeypatch.context() as context:
        usage = shutil.disk_usage(folder)
        context.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        with pytest.raises(StorageFull, match=r"expected 0\.0 GB free for the weights, got 0\.0") as raised:
            convert_mindeye2(folder / "limited.pth", folder / "here" / "out")
    assert raised.value.details["free_bytes"] == 1_000_000
    assert lines[0].startswith("StorageFull expected")
    assert os.listdir(folder / "here") == []


def test_a_changed_folder_is_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "last.pth")
    convert_mindeye2(tmp_path / "last.pth", tmp_path / "out")
    content = bytearray((tmp_path / "out" / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / "out" / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelMismatch, match="its digest differs") as raised:
        load_mindeye2(tmp_path / "out")
    assert raised.value.code == "checkpoint.tampered"
    (tmp_path / "out" / WEIGHTS).unlink()
    with pytest.raises(ModelMismatch, match="missing"):
        load_mindeye2(tmp_path / "out")
    (tmp_path / "out" / MANIFEST).write_text('{"format": 1, "kind": "encoder", "sha256": {}}')
    with pytest.raises(ModelMismatch, match="got a encoder"):
        load_mindeye2(tmp_path / "out")


def test_the_folder_that_ships_with_the_demo_loads() -> None:
    assert load_mindeye2(assets.MINDEYE2).layout.hidden == 256
