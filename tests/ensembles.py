"""Small finished runs to fuse, and what their fusion is worth by slow loops."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handclip_core.data.eleven_k import prepare_eleven_k
from handclip_core.data.framing import Framing
from handclip_core.data.manifest import Cut
from handclip_core.data.sources import PreparedData, open_data
from handclip_core.evaluation.protocol import GalleryKind
from handclip_core.evaluation.similarity import cosine
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.paths import cache_root
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.loaded import load_finished
from handclip_core.tasks.identities.evaluator import IdentityEvaluator
from tests.conftest import TEXT, TINY_DATA, VIT

CPU = torch.device("cpu")
PLDA = {"name": "whitening", "neck": {"source": "blocks", "metric": {"kind": "plda", "dim": 8}}}
Scores = NDArray[np.float64]
Search = tuple[str, int, list[tuple[int, bool]]]


class Runs:
    """Finished runs by name, made when first asked for."""

    def __init__(self, folder: Path, backbone: BackboneSettings) -> None:
        self.folder, self._backbone = folder, backbone
        padded = larger(folder / "larger").model_copy(update={"framing": Framing.PAD})
        self._settings: dict[str, dict[str, object]] = {
            "whitened": {"strategy": {"name": "whitening"}},
            "padded": {"strategy": {"name": "whitening"}, "backbone": padded},
            "plain": {"strategy": {"name": "zero_shot"}},
            "plda": {"strategy": PLDA},
            "final": {"strategy": {"name": "zero_shot"}, "part": "train_all"},
            "final2": {"strategy": {"name": "whitening"}, "part": "train_all"},
            "other_cut": {"strategy": {"name": "zero_shot"}, "data": cut_anew(folder / "data")},
            "own_gallery": {
                "strategy": {"name": "zero_shot"},
                "data": TINY_DATA.model_copy(update={"gallery": GalleryKind.OWN}),
            },
            "classes": {"strategy": {"name": "zero_shot"}, "task": {"name": "classes"}},
            "classes2": {"strategy": {"name": "linear_probe"}, "task": {"name": "classes"}, "budget": 1},
            "by_rank": {"strategy": {"name": "whitening"}, "task": {"name": "identities", "objective": "cmc1"}},
            "captions": {"strategy": {"name": "zero_shot"}, "task": {"name": "captions"}},
        }

    def __call__(self, name: str) -> Path:
        folder = self.folder / name
        return folder if folder.exists() else self.train(folder, self._settings[name])

    def train(self, folder: Path, settings: dict[str, object]) -> Path:
        values = {"data": TINY_DATA, "backbone": self._backbone, **settings}
        return train_into(folder, Experiment.model_validate(values), device=CPU).folder


def cut_anew(folder: Path) -> PreparedData:
    """The images of TINY_DATA with other people in validation."""
    images = open_data(TINY_DATA, cache=cache_root()).folder / "pictures"
    prepare_eleven_k(images, folder, cut=Cut.COMMON, seed=1, source="drawn")
    return PreparedData(source="prepared", folder=folder)


def larger(folder: Path) -> BackboneSettings:
    """A random transformer that reads larger images than the tiny one."""
    folder.mkdir()
    model = {"embed_dim": 24, "vision_cfg": {**VIT, "image_size": 48, "patch_size": 16}, "text_cfg": TEXT}
    config = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return BackboneSettings(name=f"local-dir:{folder}", pretrained="random")


class Slow:
    """Fused scores of all validation images with each other, and what they are worth, by plain loops."""

    def __init__(self, folders: Sequence[Path]) -> None:
        loaded = [load_finished(folder, device=CPU) for folder in folders]
        evaluator = loaded[0].context.evaluator("val")
        assert isinstance(evaluator, IdentityEvaluator)
        self.evaluator, self.place = evaluator, {int(row): at for at, row in enumerate(evaluator.rows)}
        self.manifest = loaded[0].context.prepared.manifest
        self.each = []
        for run in loaded:
            vectors = evaluator.embedded(run.model, run.inputs)
            compare = run.model.pairwise_similarity or cosine
            self.each.append(compare(vectors, vectors).double().numpy())

    def searches(self) -> list[Search]:
        """Of all draws each aspect, query place, and gallery places with whether they match."""
        found = []
        for split in self.evaluator.gallery_splits:
            for aspect, queries in split.query.items():
                entries = [(name, row) for name, rows in split.gallery.items() for row in rows]
                for query in queries:
                    who = self.manifest["identity"][query]
                    sides = [
                        (self.place[row], name == aspect and self.manifest["identity"][row] == who)
                        for name, row in entries
                    ]
                    found.append((aspect, self.place[query], sides))
        return found

    def scale(self) -> list[tuple[float, float]]:
        """Mean and deviation of the impostor scores of each model."""
        pairs = [(q, g) for _, q, sides in self.searches() for g, match in sides if not match]
        return [(float(np.mean(v)), float(np.std(v))) for v in ([m[q, g] for q, g in pairs] for m in self.each)]

    def fused(self, weights: Sequence[float], scale: Sequence[tuple[float, float]]) -> Scores:
        """The weighted sum of standardised scores."""
        parts = zip(weights, scale, self.each, strict=True)
        return np.asarray(sum(w * (m - mean) / sd for w, (mean, sd), m in parts))

    def map(self, scores: Scores) -> float:
        """Mean AP over all searches."""
        return self.mean(scores, self.searches())

    def mean(self, scores: Scores, searches: Sequence[Search]) -> float:
        """Mean over aspects of the mean over queries of AP, which is 1 / rank: each query has one match."""
        by_aspect: dict[str, list[float]] = {}
        for aspect, inverse in self.ranks(scores, searches):
            by_aspect.setdefault(aspect, []).append(inverse)
        return float(np.mean([np.mean(ranks) for ranks in by_aspect.values()]))

    def ranks(self, scores: Scores, searches: Sequence[Search]) -> list[tuple[str, float]]:
        """The aspect of each search, and 1 / rank of its match; a stranger that scores as high comes before it."""
        found = []
        for aspect, query, sides in searches:
            (match,) = (scores[query, g] for g, same in sides if same)
            found.append((aspect, 1 / (1 + sum(bool(scores[query, g] >= match) for g, same in sides if not same))))
        return found
