"""Archives of TorchScript: their weights are those that the program would have."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models.weights.activation import quick_gelu_of
from handclip_core.models.weights.files import read_tensors
from handclip_core.models.weights.origin import Origin
from handclip_core.models.weights.torchscript import is_torchscript, read_torchscript


class Program(nn.Module):
    """Layers, a buffer, a number and weights of two types, one of them a view of another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.lean = nn.Parameter(torch.rand(2, 5).half())
        self.register_buffer("turned", torch.rand(3, 2).t())
        self.scale = 2.5

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.layers(values)
        return result * self.scale


def archived(folder: Path) -> tuple[Program, Path]:
    program, path = Program(), folder / "program.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(program), path)
    return program, path


def test_the_tensors_are_those_of_the_state_dict(tmp_path: Path) -> None:
    program, path = archived(tmp_path)
    assert is_torchscript(path)
    found, expected = read_torchscript(path), program.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype is tensor.dtype
        assert torch.equal(found[name], tensor)


class Activated(nn.Module):
    def __init__(self, *, quick: bool) -> None:
        super().__init__()
        self.act = QuickGELU() if quick else nn.GELU()

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.act(values)
        return result


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("archive", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(2))])
def test_the_activation_is_that_of_the_program(tmp_path: Path, archive: Callable[..., Any], quick: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(archive(Activated(quick=quick)), tmp_path / "w.pt")
    assert quick_gelu_of(tmp_path / "w.pt", {}, Origin({})) is quick


def test_weights_alone_are_no_archive(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "w.pt")
    assert not is_torchscript(tmp_path / "w.pt")
    assert not is_torchscript(Path(__file__))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    program, path = archived(tmp_path)
    data = bytearray(path.read_bytes())
    at = data.find(program.state_dict()["layers.0.weight"].numpy().tobytes())
    assert at > 0
    data[at] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"program.pt: not a weight file, or damaged; .*CRC"):
        read_tensors(path)
