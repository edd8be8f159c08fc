"""Files as people have them: what is read out of them, and what is refused."""

import argparse
import collections
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models.weights.files import read_tensors, weights_in

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(4)}


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def names_and_values(found: dict[str, Tensor]) -> dict[str, list[Any]]:
    return {name: tensor.tolist() for name, tensor in found.items()}


EXPECTED = names_and_values(WEIGHTS)


def test_names_carry_the_keys_of_the_mappings_around_them(tmp_path: Path) -> None:
    content = {"epoch": 3, "model": WEIGHTS, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    found = read_tensors(saved(content, tmp_path / "w.pt"))
    assert set(found) == {"model/a.weight", "model/b.bias", "optimizer/state/0/exp_avg"}
    assert torch.equal(found["model/a.weight"], WEIGHTS["a.weight"])


def test_mappings_in_a_list_are_named_by_their_place(tmp_path: Path) -> None:
    found = read_tensors(saved((WEIGHTS, [torch.zeros(2)], {"lr": 0.1}), tmp_path / "w.pt"))
    assert set(found) == {"0/a.weight", "0/b.bias"}


class Calls:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., Any], *given: object) -> None:
        self.call = (function, given)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def test_what_stands_beside_weights_is_neither_run_nor_in_the_way(tmp_path: Path) -> None:
    content = {
        "state_dict": WEIGHTS,
        "best": np.float64(0.5),
        "curve": np.arange(3),
        "args": argparse.Namespace(lr=0.1),
        "counts": collections.defaultdict(list, {"a": [1]}),
        "call": Calls(shutil.copyfile, __file__, str(tmp_path / "copy")),
    }
    found = read_tensors(saved(content, tmp_path / "w.pt"))
    assert names_and_values(found) == {f"state_dict/{name}": value for name, value in EXPECTED.items()}
    assert not (tmp_path / "copy").exists()


def test_a_file_that_calls_the_system_is_refused_in_one_line(tmp_path: Path) -> None:
    path = saved({"state_dict": WEIGHTS, "call": Calls(os.mkdir, str(tmp_path / "made"))}, tmp_path / "w.pt")
    with pytest.raises(
        InputError, match=r"w.pt: not a weight file, .*\(Trying to load unsupported GLOBAL \w+.mkdir"
    ) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_a_pickled_module_gives_the_tensors_of_its_state_dict(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.BatchNorm1d(2), nn.ReLU()))
    path = saved({"net": module}, tmp_path / "module.pt")
    state = {f"net/{name}": value for name, value in module.state_dict().items()}
    assert names_and_values(read_tensors(path)) == names_and_values(state)


def test_formats_are_told_by_content(tmp_path: Path) -> None:
    legacy, tensors = tmp_path / "legacy.bin", tmp_path / "weights.bin"
    torch.save(WEIGHTS, legacy, _use_new_zipfile_serialization=False)
    save_file(WEIGHTS, tensors)
    assert names_and_values(read_tensors(legacy)) == names_and_values(read_tensors(tensors)) == EXPECTED


def test_a_folder_gives_its_weights_and_those_of_an_index_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a folder without weights; looked for handclip_best\.pth, "):
        weights_in(tmp_path)
    parts = {"a.weight": "model-1.safetensors", "b.bias": "model-2.safetensors"}
    for name, part in parts.items():
        save_file({name: WEIGHTS[name]}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}), encoding="utf-8")
    assert names_and_values(read_tensors(tmp_path)) == EXPECTED
    saved(WEIGHTS, tmp_path / "handclip_best.pth")
    assert weights_in(tmp_path) == tmp_path / "handclip_best.pth"


def test_bytes_that_are_not_those_written_are_told_with_the_tensor(tmp_path: Path) -> None:
    content = {"first": torch.rand(100), "shared": WEIGHTS, "last": {"c.weight": torch.full((5000,), 1.5)}}
    path = saved(content, tmp_path / "w.pt")
    data = bytearray(path.read_bytes())
    at = data.find(torch.full((100,), 1.5).numpy().tobytes())
    data[at : at + 64] = bytes(255 - byte for byte in data[at : at + 64])
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"w.pt: not a weight file.*the checksum of 'last/c.weight' is wrong"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"not weights at all" * 100, ""),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{not json      }", ""),
    ],
)
def test_what_is_no_weight_file_is_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"weights.pt: not a weight file, or damaged; .*{reason}") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
