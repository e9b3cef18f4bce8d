"""DeepSpeed's folders, written here as DeepSpeed lays them out (its zero_to_fp32 is the specification)."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mindsight.decoders.mindeye2 import convert_mindeye2, load_mindeye2
from mindsight.errors import ModelMismatch
from support.reported import Reported

BUFFERS = "diffusion_prior.noise_scheduler."
FROZEN = ".rotary_emb.freqs"


class LossScaler:
    """DeepSpeed pickles an object of its own beside the weights."""

    def __init__(self) -> None:
        self.cur_scale = 65536.0


def write_zero(folder: Path, state: dict[str, Tensor], ranks: int, *, stage: int = 2, frozen: bool = True) -> Path:
    """Two parameter groups (weight decay or none), each one flat float32 vector cut into equal parts."""
    folder.mkdir(parents=True)
    trained = {key: t for key, t in state.items() if not key.startswith(BUFFERS) and not key.endswith(FROZEN)}
    groups = [[k for k in trained if "bias" not in k], [k for k in trained if "bias" in k]]
    model: dict[str, Any] = {
        "module": OrderedDict((key, tensor.half()) for key, tensor in state.items()),
        "buffer_names": [key for key in state if key.startswith(BUFFERS)],
        "param_shapes": [OrderedDict((key, state[key].shape) for key in group) for group in groups],
        "frozen_param_shapes": None,
        "frozen_param_fragments": {k: t for k, t in state.items() if k.endswith(FROZEN)} if frozen else None,
        "shared_params": {},
        "ds_version": "0.13.1",
        "lr_scheduler": LossScaler(),
    }
    torch.save(model, folder / "mp_rank_00_model_states.pt")
    parts = []
    for group in groups:
        flat = torch.cat([state[key].float().flatten() for key in group])
        padding = -len(flat) % (2 * ranks)
        parts.append(torch.cat((flat, torch.zeros(padding))).chunk(ranks))
    for rank in range(ranks):
        optimizer = {
            "loss_scaler": LossScaler(),
            "zero_stage": stage,
            "partition_count": [ranks, ranks],
            "single_partition_of_fp32_groups": [part[rank].clone() for part in parts],
            "base_optimizer_state": {"state": {0: {"exp_avg": parts[0][rank].clone()}}},
        }
        torch.save(
            {"optimizer_state_dict": optimizer, "ds_version": "0.13.1"},
            folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
        )
    return folder


@pytest.mark.parametrize(("ranks", "stage"), [(1, 1), (3, 2), (11, 2)])
def test_float32_weights_come_out_of_the_shards(
    weights: dict[str, Tensor], tmp_path: Path, ranks: int, stage: int
) -> None:
    write_zero(tmp_path / "run/last", weights, ranks, stage=stage)
    loaded = load_mindeye2(tmp_path / "run")
    expected = load_mindeye2(weights).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


def test_the_folder_converts_and_latest_names_it(weights: dict[str, Tensor], tmp_path: Path) -> None:
    write_zero(tmp_path / "run/epoch149", weights, 2, frozen=False)
    (tmp_path / "run/latest").write_text("epoch149\n")
    reported = Reported()
    converted = convert_mindeye2(tmp_path / "run", tmp_path / "out", report=reported)
    reported.check()
    assert converted.source == "run"
    assert converted.source_bytes == sum(path.stat().st_size for path in (tmp_path / "run/epoch149").iterdir())
    expected = load_mindeye2(weights).state_dict()
    state = load_mindeye2(tmp_path / "out").state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected if not key.endswith(FROZEN))
    # older DeepSpeed left frozen parameters out: they are recomputed
    for key in expected:
        if key.endswith(FROZEN):
            torch.testing.assert_close(state[key], expected[key], rtol=1e-3, atol=0)  # recorded in half


def test_without_shards_the_models_file_is_read(weights: dict[str, Tensor], tmp_path: Path) -> None:
    folder = write_zero(tmp_path / "last", weights, 1)
    (folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt").unlink()
    state = load_mindeye2(folder).state_dict()
    key = "backbone.backbone_linear.weight"
    assert torch.equal(state[key], weights[key].half().float())


def test_what_is_not_there_is_reported(weights: dict[str, Tensor], tmp_path: Path) -> None:
    def refused(folder: Path, expected: str) -> None:
        with pytest.raises(ModelMismatch, match=expected) as raised:
            load_mindeye2(folder)
        assert raised.value.code == "checkpoint.zero"

    refused(write_zero(tmp_path / "third", weights, 1, stage=3), "zero_to_fp32")
    hole = write_zero(tmp_path / "hole", weights, 3)
    (hole / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    refused(hole, "none of rank 1")
    far = write_zero(tmp_path / "far", weights, 1)
    (far / "zero_pp_rank_999999999999_mp_rank_00_optim_states.pt").touch()
    refused(far, "none of rank 1")  # at once, and not of the 10^12 others
    short = write_zero(tmp_path / "short", weights, 3)
    (short / "zero_pp_rank_2_mp_rank_00_optim_states.pt").unlink()
    refused(short, "of 3 ranks, got 2 files")
    third = tmp_path / "whole_third/last"
    third.mkdir(parents=True)
    (third / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    refused(third.parent, "zero_to_fp32")
    more = {**weights, "backbone.more.weight": torch.zeros(50, 2)}
    other = write_zero(tmp_path / "other", more, 2)
    fewer = write_zero(tmp_path / "fewer", weights, 2)
    shutil.copy(fewer / "mp_rank_00_model_states.pt", other)
    refused(other, r"numbers of \d+ parameters, got")
    cut = write_zero(tmp_path / "cut", weights, 1)
    (cut / "mp_rank_01_model_states.pt").touch()
    refused(cut, "not cut into parts")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("mp_rank_00_model_states.pt", {"module": 3, "param_shapes": [{"a": "b"}, {}]}),
        ("mp_rank_00_model_states.pt", {"param_shapes": 7}),
        ("mp_rank_00_model_states.pt", {"param_shapes": [{"a": torch.Size([0])}, {}]}),
        ("mp_rank_00_model_states.pt", {"param_shapes": [{"a": (-4, 2)}, {"b": (2**40,)}]}),
        ("mp_rank_00_model_states.pt", {"frozen_param_fragments": [1]}),
        ("zero_pp_rank_1_mp_rank_00_optim_states.pt", {"optimizer_state_dict": {"zero_stage": 2}}),
        ("zero_pp_rank_1_mp_rank_00_optim_states.pt", {"optimizer_state_dict": {"zero_stage": "two"}}),
        (
            "zero_pp_rank_1_mp_rank_00_optim_states.pt",
            {"optimizer_state_dict": {"single_partition_of_fp32_groups": [torch.zeros(2)]}},
        ),
    ],
)
def test_files_with_something_else_in_them_are_refused(
    weights: dict[str, Tensor], tmp_path: Path, file: str, change: dict[str, Any]
) -> None:
    folder = write_zero(tmp_path / "last", weights, 2)
    torch.save({**torch.load(folder / file, weights_only=False), **change}, folder / file)
    with pytest.raises(ModelMismatch) as raised:
        load_mindeye2(folder)
    assert raised.value.code == "checkpoint.zero"


def test_a_tag_that_is_no_name_is_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    write_zero(tmp_path / "run/last", weights, 1)
    for tag in (b"\xff\xfe\x00", b"a\x00b", b"..", b"last\n"):
        (tmp_path / "run/latest").write_bytes(tag)
        if tag == b"last\n":
            load_mindeye2(tmp_path / "run")
            continue
        with pytest.raises(ModelMismatch):
            load_mindeye2(tmp_path / "run")
