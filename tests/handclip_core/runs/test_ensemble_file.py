"""What the file of an ensemble may say."""

import json
from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.runs.ensemble_file import read_ensemble


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": [1.0]}, "weights: 1 numbers for 2 members"),
        ({"weights": [1.5, -0.5]}, "none may be negative"),
        ({"weights": [0.5, 0.4]}, "add up to 1"),
        ({"deviations": [1.0, 0.0]}, "deviations: must be above 0"),
        ({"name": "../plain"}, "name"),
        ({"name": ".."}, "name"),
        ({"name": "2-two"}, "a name is there twice"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    changes = dict(changes)
    name = changes.pop("name", "1-one")
    members = [{"name": other, "origin": "/runs/one", "hash": "a", "file": "b"} for other in (name, "2-two")]
    plain = {"weights": [0.5, 0.5], "means": [0.0, 0.0], "deviations": [1.0, 1.0]}
    values = {"by": "score", **plain, "members": members, "gain": None, **changes}
    (tmp_path / "ensemble.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=said):
        read_ensemble(tmp_path)
