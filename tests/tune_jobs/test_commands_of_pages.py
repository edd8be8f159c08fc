"""Every command in README.md and docs/ is run, in the order of its page, on data and sweeps as small as they can be.

The tutorial's are run in ``tests/test_documented_commands.py``, jobs on clusters in ``tests/cluster``.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import LIMIT_S
from tests.test_documented_commands import BLOCK, STARTS
from tests.tune_jobs.conftest import ObjectStore

pytestmark = [pytest.mark.faults, pytest.mark.ray]  # some fifty commands of several seconds each

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/experiments.md", "docs/report.md", "docs/serving.md")
SMALL = "data: {source: drawn, people: 12, images_per_aspect: 3, height_px: 96}"
SETTINGS = f"name: NAME\n{SMALL}\nstrategies: [zero_shot, linear_probe]\ntrials: 2\nbudget: 1\n"
SETTINGS += "search: {ranges: {neck/metric/kind: [none]}}\n"
SWEEPS = ("NAME", "OTHER", "quickstart")
SHORTER = {
    "trials=60": "trials=2 --set strategies=[linear_probe]",
    "budget=30": "budget=1",
    "backbone.name=ViT-B-32": "backbone.name=handclip-nano",  # whose weights need no download
    " --set backbone.pretrained=openai": "",
    "--extend 50": "--extend 1",
    "finalists.py quickstart": "finalists.py quickstart --top 1 --seeds 1",
    "runs/*-0 runs/*-1 runs/*-2": "runs/*-SEED",
    "s3://BUCKET/runs": "'BUCKET'",
    " SETTINGS.yaml --set storage": " SETTINGS.yaml --name shared --set storage",
}
"""What is replaced in commands: work that takes long, and what is not here."""
SMALLER_EXPERIMENT = {"people: 64": "people: 12, images_per_aspect: 3, height_px: 96", "budget: 8": "budget: 1"}


def lines_of(text: str) -> list[str]:
    """Every command of ours in the blocks of a page, as a shell reads it; of a submission, what is submitted."""
    found = []
    for _, block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("python exported/"):
                found.append(line)
            elif match := STARTS.search(line):
                program = match.group(1)
                found.append(("" if program == "handclip" else "python ") + program + match.group(2))
    return found


class World:
    """A folder with what the pages speak of: data, settings, sweeps, and the programs to type."""

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        self.folder, self.bucket, self.replaced = folder, str(store.bucket("pages") / "runs"), set[str]()
        programs = folder / "bin"
        programs.mkdir(parents=True)
        lines = ["from tune_jobs.command import command", "if __name__ == '__main__':", "    command()", ""]
        ours, python = [f"#!{sys.executable}", *lines], ["#!/bin/sh", f'exec {sys.executable} "$@"', ""]
        for name, program in (("handclip", ours), ("python", python)):
            (programs / name).write_text("\n".join(program))
            (programs / name).chmod(0o755)
        (folder / "tune_jobs").symlink_to(ROOT / "tune_jobs")
        self.environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HANDCLIP_STATE": str(folder / "state"),
        }

    def run(self, line: str) -> str:
        """What a command prints; it fails with the end of that if the command does."""
        ran = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=LIMIT_S
        )
        assert ran.returncode == 0, f"{line}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
        assert "Traceback" not in ran.stderr + ran.stdout, line
        return ran.stdout

    def typed(self, line: str) -> str:
        """A command of a page, made as small as it can be."""
        for long, short in SHORTER.items():
            if long in line:
                self.replaced.add(long)
                line = line.replace(long, short)
        line = line.replace("[--resume]", "").replace("/data/", f"{self.folder}/data/")
        return line.replace("BUCKET", self.bucket).replace("/shared/", f"{self.folder}/shared/")

    def fill(self) -> None:
        """Draw hands and lay them out as the pages say; prepare and run what they take for given."""
        self.run("handclip prepare drawn data/11k --out drawn-prepared --people 12")
        rows = list(csv.DictReader((self.folder / "data/11k/HandInfo.csv").open()))
        images = [(row, self.folder / "data/11k/Hands" / row["imageName"]) for row in rows]
        of_one_side = [(row, image) for row, image in images if row["aspectOfHand"] == "dorsal right"]
        for number, (row, image) in enumerate(of_one_side):
            copy(image, self.folder / "data/mine" / row["id"])
            copy(image, self.folder / "DIR")
            copy(image, self.folder / ("people" if number % 2 else "asked") / row["id"])
            copy(image, self.folder / "others" / row["id"])
            if number < 2:
                shutil.copy(image, self.folder / "asked" / f"{number + 1}.jpg")
        entries = []
        for number, (row, image) in enumerate(images[:120]):
            copy(image, self.folder / "data/actions" / row["aspectOfHand"].replace(" ", "_"))
            copy(image, self.folder / "data/coco")
            text = f"the {row['aspectOfHand']} hand of a person of {row['age']}, number {number}"
            split = ("train", "train", "val", "test")[number % 4]
            entries.append({"filename": image.name, "split": split, "sentences": [{"raw": text}]})
        (self.folder / "data/dataset_coco.json").write_text(json.dumps({"images": entries, "dataset": "coco"}))
        (self.folder / "SETTINGS.yaml").write_text(SETTINGS)
        (self.folder / "NAME-SEED.yaml").write_text(f"strategy: {{name: linear_probe}}\n{SMALL}\nbudget: 1\n")
        for name in SWEEPS:
            self.run(f"python tune_jobs/sweep.py SETTINGS.yaml --name {name}")
        self.run(self.typed("python tune_jobs/sweep.py --set storage='BUCKET' SETTINGS.yaml"))
        (self.folder / "captions.yaml").write_text(
            f"task: {{name: captions}}\nstrategy: {{name: zero_shot}}\n{SMALL}\n"
        )
        self.run("handclip train captions.yaml --out RUN")
        for copied in ("OTHER_RUN", "runs/other"):
            shutil.copytree(self.folder / "runs/OTHER/best", self.folder / copied)
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        (experiment,) = (block for kind, block in BLOCK.findall(text) if kind == "yaml" and "experiment.yaml" in block)
        for long, short in SMALLER_EXPERIMENT.items():
            assert experiment.count(long) == 1
            experiment = experiment.replace(long, short)
        (self.folder / "experiment.yaml").write_text(experiment)


def copy(image: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    shutil.copy(image, into)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStore) -> World:
    world = World(tmp_path_factory.mktemp("world"), object_store)
    world.fill()
    return world


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_run(world: World, page: str) -> None:
    lines = lines_of((ROOT / page).read_text(encoding="utf-8"))
    assert lines
    for line in lines:
        for made in ("gallery", "exported", "answers", "runs/together", "runs/mine"):
            if re.search(rf"--(?:out|to) {made}(?= |$)", line):
                shutil.rmtree(world.folder / made, ignore_errors=True)  # another page makes it, too
        world.run(world.typed(line))


def test_what_is_made_shorter_stands_on_a_page(world: World) -> None:
    for page in PAGES:
        for line in lines_of((ROOT / page).read_text(encoding="utf-8")):
            world.typed(line)
    assert world.replaced == set(SHORTER)
