"""What a finished run says of its model, so that it can be opened without the data and the pretrained weights."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from handclip_core.config import Config
from handclip_core.data.manifest import Cut, Prepared, Protocol
from handclip_core.data.samplers import Pool
from handclip_core.data.training import LabelBy, Labelled, TrainingData
from handclip_core.models.backbone import RANDOM, load_backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.metric import MOST_DIMENSIONS
from handclip_core.models.names import CONFIG_FILE, LOCAL_FOLDER
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment
from handclip_core.types import Aspect

MODEL_FILE = "model.json"
FOR_TRAINING = ("head.", "branches.heads.", "prompts.", "backbone.text.", "backbone.logit_scale", "bias")
"""Prefixes of weights that no embedding of an image depends on."""


class SplitCounts(Config):
    """How much of the data one part of an experiment used."""

    images: int
    """Images."""
    identities: int
    """People."""


class ModelFile(Config):
    """What of the training data the shape of a model depends on, and what a model card says of them."""

    num_images: int = Field(ge=0)
    """Images that were trained on."""
    num_classes: int = Field(ge=0)
    """Classes of the training labels."""
    aspects: tuple[Aspect, ...]
    """Aspects that training images show."""
    source: str
    """What was prepared: ``11k``, ``hd``, ``folder`` or ``drawn``."""
    manifest_hash: str
    """SHA-256 of the manifest."""
    cut: Cut | None = None
    """How people were cut into training and test."""
    gallery_splits: dict[str, int] = Field(default_factory=dict)
    """Draws of a gallery by the part of the data, in tasks with galleries."""
    splits: dict[str, SplitCounts]
    """How much was trained on, validated on and kept for the test."""
    shared_with_test: int = 0
    """People of the test who were trained on, too: by another aspect, as published cuts have it."""


def model_files(experiment: Experiment, context: ExperimentContext) -> dict[str, str]:
    """MODEL_FILE and open_clip's config, which let a run's weights be opened anywhere, as texts by name."""
    from handclip_core.models.architectures import config_of  # imports open_clip, as drivers must not

    data = context.training_data(experiment.part)
    rows = {"train": data.rows, "test": context.rows("test")}
    if experiment.part == "train":
        rows["val"] = context.rows("val")
    found = ModelFile(
        num_images=data.num_images,
        num_classes=experiment.strategy.metric_labels(data).num_classes,
        aspects=data.shown_aspects,
        source=context.prepared.protocol.source,
        manifest_hash=context.prepared.protocol.manifest_hash,
        cut=context.prepared.protocol.cut,
        gallery_splits={name: len(draws) for name, draws in context.prepared.protocol.draws.items() if draws},
        shared_with_test=len(np.intersect1d(context.identities[data.rows], context.identities[rows["test"]])),
        splits={name: SplitCounts(images=len(part), identities=_people(context, part)) for name, part in rows.items()},
    )
    architecture = config_of(experiment.backbone.name, context.pretrained.visual)
    return {MODEL_FILE: found.model_dump_json(indent=2), CONFIG_FILE: json.dumps(architecture, indent=2)}


def _people(context: ExperimentContext, rows: NDArray[np.int64]) -> int:
    return len(np.unique(context.identities[rows]))


def weights_hash(model: HandModel, state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the weights that embeddings depend on, as they were saved, and of what comes before them."""
    backbone = model.architecture
    digest = hashlib.sha256(f"{backbone.frame} {backbone.image_px}".encode())
    before = {"mean": backbone.mean, "std": backbone.std}
    for name, tensor in sorted({**state, **before}.items()):
        if not name.startswith(FOR_TRAINING):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def untrained(experiment: Experiment, folder: Path) -> HandModel:
    """The model of ``experiment`` as the files in ``folder`` describe it, with random weights.

    It embeds images as the trained one does, once that one's weights are loaded; a text tower, which no embedding of an
    image needs, is left out. Raises InputError if the files are missing or damaged.
    """
    described = ModelFile.from_file(folder / MODEL_FILE)
    settings = experiment.backbone.model_copy(update={"name": f"{LOCAL_FOLDER}{folder}", "pretrained": RANDOM})
    backbone = load_backbone(settings)
    protocol = Protocol(
        source=described.source,
        cut=Cut.COMMON,
        seed=0,
        root="",
        source_hash="",
        manifest_hash=described.manifest_hash,
        closed_val=(),
        draws={},
    )
    nothing = Prepared(folder, folder, pd.DataFrame(), protocol)
    data = _DescribedData(
        nothing,
        described.aspects,
        zero_shot=lambda rows: np.zeros((len(rows), backbone.dim), np.float32),
        described=described,
    )
    return experiment.strategy.of_images.build(backbone, data)


@dataclass(frozen=True, kw_only=True)
class _DescribedData(TrainingData):
    """Training data of the size of those ``described``, and without any content: enough to build a model of its shape.

    No more images are pretended than make a difference to the widths of a metric.
    """

    described: ModelFile

    def labelled(self, by: LabelBy, *, aspects: Sequence[Aspect] | None = None) -> Labelled:
        """The number of rows and classes, whatever is asked for."""
        del by, aspects
        rows = np.zeros(min(self.described.num_images, MOST_DIMENSIONS + 1), np.int64)
        return Labelled(rows, Pool(rows, rows), self.described.num_classes)

    @property
    def shown_aspects(self) -> tuple[Aspect, ...]:
        """Aspects of the training images."""
        return self.described.aspects
