"""Every command in this process, on a small world of good inputs in which a test makes one bad."""

import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
import yaml
from filelock import FileLock

from handclip_core.data.eleven_k import prepare_eleven_k
from handclip_core.data.manifest import Cut
from handclip_core.drawn import write_data_set
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment
from handclip_core.serving.gallery import enrol
from handclip_core.serving.model import open_run
from handclip_core.strategies import Full, ZeroShot
from handclip_core.types import Aspect
from tests.conftest import TINY_DATA
from tests.handclip_core.serving.conftest import CPU, OPTIM
from tests.tune_jobs.finals.conftest import write_sweep
from tune_jobs.command import main
from tune_jobs.execution import cluster

HERE = Path(__file__).parent
RAW = re.compile(
    r"Traceback|\[Errno|\bErrno\b|<class|object at 0x|\b\w+Error\b(?!:? \w+ of)|codec can't|pydantic|invalid literal"
)
"""What only libraries say."""
IN_EVERY_RUN = 4
"""One test in so many of a file's is part of every run, the others of ``make test-faults`` alone."""
HANGS_S = 60
LONGEST = 500
"""Letters of a line that can be read at once."""


class Waits(BaseException):
    """A command has not ended for long; no Exception, so that no command takes it for a fault of its input."""


@dataclass(frozen=True)
class Answer:
    """What a command has left on the terminal."""

    code: int
    out: str
    err: str

    def refusal(self, *words: str) -> str:
        """The one line with which it refused; each of ``words``, a regular expression, is found in it."""
        assert self.code == 2, (self.code, self.out[-500:], self.err[-2000:])
        lines = self.err.splitlines()
        errors = [line for line in lines if not line.startswith(("unreadable: ", "note: "))]
        assert len(errors) == 1, self.err
        assert lines[-1] == errors[0]
        line = errors[0]
        assert line.startswith("error: "), line
        assert not RAW.search(line), line
        assert len(line) <= LONGEST, line
        assert line.isprintable(), line
        for word in words:
            assert re.search(word, line), f"{word!r} is not in {line!r}"
        return line


Told = Callable[..., Answer]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most of the paths and values to ``make test-faults``."""
    places = Counter[Path]()
    for item in items:
        if item.path.parent == HERE and item.path.name != "test_damage.py":
            if places[item.path] % IN_EVERY_RUN:
                item.add_marker(pytest.mark.faults)
            places[item.path] += 1


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Told:
    """``handclip`` with arguments, in an empty folder; Ray may not be started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr(ray, "init", started)
    monkeypatch.setattr(cluster, "connect", started)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def waits(*_: object) -> None:
        raise Waits

    def tell(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["handclip", *map(str, words)])
        capfd.readouterr()
        before = signal.signal(signal.SIGALRM, waits)
        signal.alarm(HANGS_S)
        try:
            with pytest.raises(SystemExit) as end:
                main()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        return Answer(int(end.value.code or 0), *capfd.readouterr())

    return tell


@dataclass(frozen=True)
class World:
    """Good inputs of every kind, below one folder that no test writes to."""

    root: Path

    def __getitem__(self, name: str) -> str:
        found = self.root / name
        assert found.exists(), name
        return str(found)


@pytest.fixture(scope="session")
def world(shared_folder: Path, tiny_backbones: dict[str, BackboneSettings]) -> World:
    """Made once for all processes of a run of tests."""
    root = shared_folder / "world"
    with FileLock(shared_folder / "world.lock"):
        if not root.exists():
            shutil.rmtree(root.with_name("half"), ignore_errors=True)
            _make(root.with_name("half"), root, tiny_backbones["vit"])
    return World(root)


def _make(half: Path, root: Path, backbone: BackboneSettings) -> None:
    half.mkdir()
    half.rename(root)
    write_data_set(root / "hands", people=8, images_per_aspect=2, height_px=96, sittings=1, seed=0)
    prepared = prepare_eleven_k(root / "hands", root / "prepared", cut=Cut("common"), seed=0)
    strategy = {"name": "linear_probe", "optim": OPTIM}
    values = {"strategy": strategy, "data": TINY_DATA, "backbone": backbone, "budget": 1}
    experiment = Experiment.model_validate(values)
    (root / "experiment.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    train_into(root / "run", experiment, device=CPU)
    people = prepared.manifest["identity"].unique()[:3]
    for person in people:
        rows = prepared.manifest[prepared.manifest["identity"] == person].index[:2]
        (root / "people" / str(person)).mkdir(parents=True)
        for row in rows:
            shutil.copy(prepared.paths()[row], root / "people" / str(person))
    shutil.copy(prepared.paths()[0], root / "image.jpg")
    enrol(open_run(root / "run", device=CPU), root / "people", root / "gallery", aspect=Aspect.UNKNOWN)
    files = sorted(path.relative_to(root / "people") for path in (root / "people").rglob("*.jpg"))
    (root / "table.csv").write_text(
        "path,identity,class,filepath,title\n" + "".join(f"{p},{p.parent},{p.parent},{p},a hand\n" for p in files)
    )
    (root / "names.csv").write_text("".join(f"{person},person {person}\n" for person in people))
    (root / "captions.json").write_text(
        json.dumps({"splits": {"train": [{"image_path": str(p), "caption": "a hand"} for p in files]}})
    )
    sweep = {"name": "good", "data": TINY_DATA.model_dump(mode="json"), "backbone": backbone.model_dump(mode="json")}
    (root / "sweep.yaml").write_text(
        yaml.safe_dump(
            sweep | {"strategies": ["linear_probe"], "trials": 2, "budget": 2, "early_stopping": {"grace": 1}}
        )
    )
    write_sweep(root / "runs" / "tiny", ((ZeroShot(), 0.5), (Full(), 0.75)), backbone=backbone)
    (root / "empty").mkdir()


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that is below a folder, with its bytes; links are not followed."""
    found: dict[str, bytes | None] = {}
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(above) / name
            is_plain = path.is_file() and not path.is_symlink()
            found[str(path.relative_to(folder))] = path.read_bytes() if is_plain else None
    return found
