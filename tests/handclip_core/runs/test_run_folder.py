"""Files of a run as they are read again: damage is noticed, and code hidden in them is not run."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from handclip_core.engine.state import save_tensors
from handclip_core.errors import InputError
from handclip_core.runs.run_folder import BEST, load_tensors
from tests.payload import Payload


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_tensors({"a": torch.arange(1000.0), "b": torch.ones(3, dtype=torch.int64)}, tmp_path / BEST)
    return tmp_path / BEST


def flip_one_bit(data: bytes) -> bytes:
    """One bit of one number is another, as a failing disk would have it: torch itself loads that without a word."""
    damaged = bytearray(data)
    damaged[data.index(torch.tensor([500.0]).numpy().tobytes()) + 1] ^= 1
    return bytes(damaged)


@pytest.mark.parametrize(
    "damage", [flip_one_bit, lambda data: data[:-100], lambda data: data[: len(data) // 2], lambda _: b""]
)
def test_damaged_weights_are_refused_by_name(weights: Path, damage: Callable[[bytes], bytes]) -> None:
    assert load_tensors(weights)["a"].sum() == 499500
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(InputError, match=r"handclip_best\.pth: damaged, or not a weight file \("):
        load_tensors(weights)


@pytest.mark.parametrize("in_zip", [True, False])
def test_code_in_a_weight_file_is_not_run(tmp_path: Path, in_zip: bool) -> None:
    content = {"a": Payload(tmp_path / "mark")}
    if in_zip:
        torch.save(content, tmp_path / BEST)
    else:
        (tmp_path / BEST).write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="damaged, or not a weight file"):
        load_tensors(tmp_path / BEST)
    assert not (tmp_path / "mark").exists()
