"""Data for the task: a manifest whose rows have classes, and the names of these."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from handclip_core.config import Config
from handclip_core.data.captions import CaptionPairs, Captions
from handclip_core.data.manifest import Prepared
from handclip_core.data.samplers import Pool
from handclip_core.data.training import LabelBy, Labelled, Part, ReadTexts, TrainingData
from handclip_core.errors import InputError
from handclip_core.models.heads import class_vectors
from handclip_core.tasks.base import Dataset, Split, Towers
from handclip_core.tasks.classes.evaluator import ClassEvaluator
from handclip_core.tasks.classes.names import ASPECT_NAMES, POLISHED, TEMPLATES, sentences
from handclip_core.types import ASPECT_INDEX, Aspect, Templates

FILE = "classes.json"
Ints = NDArray[np.int64]


class Classes(Config):
    """The classes of a prepared data set, in a file beside its manifest."""

    manifest_hash: str
    """SHA-256 of ``manifest.csv``: the two files belong together."""
    names: tuple[str, ...] = Field(min_length=2)
    """What the classes are called."""
    label: tuple[int, ...]
    """The class of every manifest row, by its place in ``names``."""


@dataclass(frozen=True)
class ClassTrainingData(TrainingData):
    """Training images with the ``label_of_row`` [N] of every manifest row, the ``names`` of the classes, and sentences
    around these by set."""

    label_of_row: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    names: tuple[str, ...] = ()
    templates: Mapping[Templates, tuple[str, ...]] = field(default_factory=lambda: TEMPLATES)

    def labelled(self, by: LabelBy, *, aspects: Sequence[Aspect] | None = None) -> Labelled:
        """Rows and classes; raises InputError for a way of labelling that identities alone know."""
        if by is not LabelBy.PERSON_ASPECT:
            raise InputError(f"strategy.labels: {by} is for the task identities; leave it out")
        known = self.aspect_indices
        keep = np.ones(len(known), bool) if aspects is None else np.isin(known, [ASPECT_INDEX[one] for one in aspects])
        labels = self.label_of_row[self.rows]
        return Labelled(self.rows[keep], Pool(labels[keep], known[keep]), num_classes=len(self.names))

    def captions(self) -> Captions:
        """A sentence with the name of each image's class."""
        text_of_row = np.full(len(self.label_of_row), -1, np.int64)
        text_of_row[self.rows] = self.label_of_row[self.rows]
        return Captions(tuple(sentences(self.names, TEMPLATES[Templates.PHOTO])), text_of_row)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called."""
        return self.names

    def pairs(self, templates: str) -> CaptionPairs:
        """The training images with the sentences of their classes, each image with each of its class's."""
        num = len(self.templates[Templates(templates)])
        text = self.label_of_row[self.rows][:, None] * num + np.arange(num)
        return CaptionPairs(tuple(self.class_sentences(templates)), np.repeat(self.rows, num), text.ravel())

    def class_sentences(self, templates: str) -> list[str]:
        """All templates with all names, a name's together."""
        return sentences(self.names, self.templates[Templates(templates)])

    def class_texts(self, templates: str) -> ReadTexts:
        """The zero-shot classifier."""
        assert self.read is not None, "an experiment context's training data come with the text tower"
        read = self.read(self.class_sentences(templates))
        return ReadTexts(class_vectors(read.embedding, len(self.names)), read.temperature)


class ClassData(Dataset):
    """A prepared data set: ``names`` of its classes, ``labels`` [N] of its rows, ``templates`` of sentences by set."""

    def __init__(
        self, prepared: Prepared, *, names: tuple[str, ...], labels: Ints, templates: Sequence[str] = ()
    ) -> None:
        super().__init__(prepared)
        self.names, self.labels = names, labels
        self.templates = {**TEMPLATES, Templates.MANY: tuple(templates) or TEMPLATES[Templates.MANY]}
        for split in ("train", "val", "test"):
            _refuse_missing(self, split)

    def rows(self, split: Split) -> Ints:
        """The images of ``split``, ascending."""
        return self._of(split)

    def training_data(self, part: Part, towers: Towers) -> ClassTrainingData:
        """The training images."""
        shown = set(self.prepared.manifest["aspect"])
        return ClassTrainingData(
            self.prepared,
            tuple(aspect for aspect in Aspect if aspect in shown),
            part,
            zero_shot=towers.projected,
            read=towers.read,
            label_of_row=self.labels,
            names=self.names,
            templates=self.templates,
        )

    def evaluator(self, split: Split, towers: Towers) -> ClassEvaluator:
        """Judges classifiers on ``split``, beside the pretrained towers as one."""
        many = sentences(self.names, self.templates[Templates.MANY])
        return ClassEvaluator(self, self.rows(split), towers, names=self.names, labels=self.labels, sentences=many)

    def counts(self) -> str:
        """Images of each class in each split, as a table."""
        subset, names = self.prepared.manifest["subset"], np.array(self.names)[self.labels]
        table = pd.crosstab(pd.Series(names, name="class"), subset)
        return str(table.reindex(index=list(self.names), columns=["train", "val", "test"]).to_string())

    def prompts(self, num: int) -> list[str]:
        """A sentence about each of the first ``num`` classes."""
        return sentences(self.names[:num], TEMPLATES[Templates.PHOTO])

    def _of(self, subset: str) -> Ints:
        return np.flatnonzero((self.prepared.manifest["subset"] == subset).to_numpy()).astype(np.int64)


def _refuse_missing(data: ClassData, subset: str) -> None:
    counts = np.bincount(data.labels[data._of(subset)], minlength=len(data.names))
    if not counts.all():
        name = data.names[int(counts.argmin())]
        raise InputError(f"{data.prepared.folder}: class '{name}' has no image in {subset}")


def read_class_data(prepared: Prepared, *, templates: Sequence[str] = ()) -> ClassData:
    """The classes in a folder that ``prepare classes`` wrote; of prepared hands what they show. ``templates`` of the
    user's stand for our many.

    Raises InputError if the file of classes is damaged or not that of the manifest, or hands are of unknown aspect.
    """
    path = prepared.folder / FILE
    if not path.exists():
        return of_hands(prepared, templates=templates)
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise InputError(f"{path}: damaged; run `prepare classes` again") from None
    found = Classes.parse(values, source=str(path))
    if found.manifest_hash != prepared.protocol.manifest_hash or len(found.label) != len(prepared.manifest):
        raise InputError(f"{path}: not the classes of the manifest beside it; run `prepare classes` again")
    return ClassData(prepared, names=found.names, labels=np.array(found.label, np.int64), templates=templates)


def of_hands(prepared: Prepared, *, templates: Sequence[str] = ()) -> ClassData:
    """Hands, whose class is the aspect, and of backs whether the nails are polished if every split shows all of these.

    No identity is in two splits.
    """
    manifest = prepared.manifest
    held = list(dict.fromkeys(aspect for aspect in ASPECT_NAMES if aspect in set(manifest["aspect"])))
    if len(held) < 2 or not set(manifest["aspect"]) <= set(held):
        raise InputError(f"{prepared.folder}: has no {FILE}, and no aspects to tell apart; run `prepare classes`")
    plain = manifest["aspect"].map(ASPECT_NAMES)
    polished = manifest["nail_polish"].eq(1).fillna(False) & manifest["aspect"].str.startswith("dorsal")
    finer = plain.where(~polished, plain + POLISHED)
    parts = [set(finer[manifest["subset"] == subset]) for subset in ("train", "val", "test")]
    called = finer if parts[0] == parts[1] == parts[2] else plain
    names = [
        name + end
        for name in (ASPECT_NAMES[aspect] for aspect in held)
        for end in ("", POLISHED)
        if name + end in set(called)
    ]
    place = {name: number for number, name in enumerate(names)}
    labels = np.array([place[name] for name in called], np.int64)
    return ClassData(prepared, names=tuple(names), labels=labels, templates=templates)
