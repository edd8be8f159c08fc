"""Measuring saved runs: one run in detail, or several side by side with CLIP as it is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.bench import Bench, Split, open_bench
from handclip_core.errors import InputError
from handclip_core.evaluation.breakdown import GroupScores, breakdown
from handclip_core.evaluation.compare import as_csv, compare_models, markdown
from handclip_core.evaluation.embed import embed
from handclip_core.evaluation.floors import FLOORS
from handclip_core.evaluation.protocol import ProtocolScores, score_draws
from handclip_core.evaluation.storage import summary
from handclip_core.evaluation.tta import combine_flips
from handclip_core.evaluation.verification import VerificationScores, pair_scores, verification_scores
from handclip_core.experiment import assemble
from handclip_core.models.hand_model import HandModel
from handclip_core.report_text import breakdown_table, scores_table, verification_text
from handclip_core.runs import load_run, read_experiment, write_json
from handclip_core.strategies import ZeroShot

BASELINE = "clip (zero-shot)"


@dataclass(frozen=True)
class Report:
    """A measured run: ``text`` for people, ``values`` for programs."""

    text: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Models side by side."""

    markdown: str
    csv: str

    def write(self, folder: Path) -> None:
        """Write ``comparison.md`` and ``comparison.csv``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.md").write_text(self.markdown, encoding="utf-8")
        (folder / "comparison.csv").write_text(self.csv, encoding="utf-8")


def evaluate_run(
    folder: Path, *, split: Split, device: torch.device, flip: bool = False, floors: Sequence[str] = ()
) -> Report:
    """Score the best weights of a run and write ``evaluation_<split>.json`` beside them.

    Verification thresholds are set on validation people, also for the test people. Raises InputError where the run
    cannot be loaded.
    """
    experiment = read_experiment(folder)
    bench = open_bench(experiment.data, experiment.backbone, device)
    model = load_run(folder, device=device)
    embeddings = _embeddings(model, bench, split, flip=flip)
    scores = _scored(embeddings, bench, split)
    rows = {folder.name: scores, **_floor_scores(bench, split, floors)}
    on_val = embeddings if split == "val" else _embeddings(model, bench, "val", flip=flip)
    verified = verification_scores(_pairs(embeddings, bench, split), _pairs(on_val, bench, "val"))
    groups = breakdown(scores, bench.prepared.manifest)
    values = {"run": str(folder), "split": split, "flip": flip, "scores": summary(scores)}
    values |= {"floors": {name: summary(rows[name]) for name in floors}}
    values |= {"verification": asdict(verified), "breakdown": [asdict(group) for group in groups]}
    write_json(folder / f"evaluation_{split}.json", values)
    return Report(text=_text(rows, verified, groups, split), values=values)


def compare_runs(
    folders: Sequence[Path], *, split: Split, device: torch.device, flip: bool = False, floors: Sequence[str] = ()
) -> Comparison:
    """Score runs on the same data beside CLIP as it is; raises InputError where their data or backbones differ."""
    experiments = [read_experiment(folder) for folder in folders]
    first = experiments[0]
    for folder, other in zip(folders, experiments, strict=True):
        if (other.data, other.backbone) != (first.data, first.backbone):
            raise InputError(f"{folder}: has other data or another backbone than {folders[0]}; compare like with like")
    bench = open_bench(first.data, first.backbone, device)
    baseline = assemble(first.model_copy(update={"strategy": ZeroShot()}), bench).model
    models = {BASELINE: _scored(_embeddings(baseline, bench, split, flip=flip), bench, split)}
    models |= _floor_scores(bench, split, floors)
    for name, folder in zip(_names(folders), folders, strict=True):
        model = load_run(folder, device=device)
        models[name] = _scored(_embeddings(model, bench, split, flip=flip), bench, split)
    rows = compare_models(models, baseline=BASELINE)
    return Comparison(markdown=markdown(rows), csv=as_csv(rows))


def _embeddings(model: HandModel, bench: Bench, split: Split, *, flip: bool) -> Tensor:
    rows = bench.rows(split)
    if not flip:
        return embed(model, bench.pixel_inputs, rows, device=bench.device)
    sides = (
        embed(model, bench.pixel_inputs, rows, device=bench.device, mirror=mirror, unit=False)
        for mirror in (False, True)
    )
    return combine_flips(*sides)


def _scored(embeddings: Tensor | NDArray[np.float32], bench: Bench, split: Split) -> ProtocolScores:
    return score_draws(embeddings, bench.rows(split), bench.draws(split), bench.identities, gallery=bench.gallery)


def _floor_scores(bench: Bench, split: Split, floors: Sequence[str]) -> dict[str, ProtocolScores]:
    unknown = [name for name in floors if name not in FLOORS]
    if unknown:
        raise InputError(f"--floor {unknown[0]}: unknown; choose among {', '.join(FLOORS)}")
    pictures = bench.pixels.batch(bench.rows(split)) if floors else np.empty(0)
    return {name: _scored(FLOORS[name](pictures), bench, split) for name in floors}


def _pairs(embeddings: Tensor, bench: Bench, split: Split) -> Any:
    rows = bench.rows(split)
    aspects = bench.prepared.manifest["aspect"].to_numpy(dtype=str)[rows]
    return pair_scores(embeddings, bench.identities[rows], groups=aspects)


def _names(folders: Sequence[Path]) -> list[str]:
    """Short names of run folders that tell them apart: ``name``, or ``parent/name`` where names repeat."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names) and "best" not in names:
        return names
    return [f"{folder.resolve().parent.name}/{name}" for folder, name in zip(folders, names, strict=True)]


def _text(
    rows: dict[str, ProtocolScores], verified: VerificationScores, groups: Sequence[GroupScores], split: Split
) -> str:
    parts = [scores_table(rows, split=split), verification_text(verified), breakdown_table(groups)]
    return "\n\n".join(parts)
