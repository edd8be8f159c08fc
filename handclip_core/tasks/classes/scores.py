"""How good a classifier is: accuracy, by class and over classes, calibration, and what is taken for what."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handclip_core.data.manifest import Prepared
from handclip_core.errors import InputError
from handclip_core.evaluation.generic import GENERIC
from handclip_core.evaluation.metrics import RETENTION, Metric
from handclip_core.evaluation.questions import Item, Panel, Questions
from handclip_core.evaluation.storage import read_arrays, write_arrays
from handclip_core.evaluation.units import Confusions, Evaluation, Units
from handclip_core.tasks.classes.figure import confusion_image

Ints = NDArray[np.int64]
Values = NDArray[np.float64]
FORMAT = 1
BINS = 15
"""Bins of the calibration error (Guo 2017, arXiv 1706.04599, section 2)."""
TOP = 5
COLUMNS = ("rows", "truth", "clusters", "probabilities")
ZERO_SHOT, CALIBRATION_ERROR = "zero_shot_accuracy", "calibration_error"
RESAMPLED = (
    Metric("accuracy", "accuracy", in_tables=True, compared=True),
    Metric("macro_f1", "macro F1", in_tables=True, compared=True),
    Metric("class_mean", "per-class mean", compared=True),
    Metric(f"top{TOP}", f"top-{TOP}", compared=True),
)
METRICS = (
    *RESAMPLED,
    Metric("macro_precision", "macro precision"),
    Metric("weighted_precision", "weighted precision"),
    Metric("weighted_f1", "weighted F1"),
    Metric(ZERO_SHOT, "zero-shot accuracy of its towers"),
    Metric(RETENTION, RETENTION, in_tables=True, over_seeds=False),
    GENERIC,
)


@dataclass(frozen=True, eq=False)
class ClassScores(Evaluation):
    """What a classifier makes of images: manifest ``rows`` [n] of class ``truth`` [n], ``probabilities`` [n, P].

    ``clusters`` [n] say which images belong together. Classes that no image shows and none is taken for are in no mean
    over classes, as in scikit-learn.
    """

    names: tuple[str, ...]
    rows: Ints
    truth: Ints
    clusters: Ints
    probabilities: Values

    @cached_property
    def predicted(self) -> Ints:
        """The most probable class of each image [n], the first of equals."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @cached_property
    def confusion(self) -> Ints:
        """Images by class and by what they are taken for [P, P]."""
        num = len(self.names)
        counts = np.bincount(self.truth * num + self.predicted, minlength=num * num)
        return counts.reshape(num, num).astype(np.int64)

    @property
    def metrics(self) -> dict[str, float]:
        """The figures, by name."""
        report, known = self.by_class, self.by_class[["images", "taken"]].sum(axis=1) > 0
        weights = report["images"] / report["images"].sum()
        return {
            "accuracy": float((self.predicted == self.truth).mean()),
            "macro_f1": float(report.loc[known, "f1"].mean()),
            "class_mean": float(report.loc[report["images"] > 0, "recall"].mean()),
            f"top{TOP}": float(self._in_top.mean()),
            "macro_precision": float(report.loc[known, "precision"].mean()),
            "weighted_precision": float((report["precision"] * weights).sum()),
            "weighted_f1": float((report["f1"] * weights).sum()),
        }

    @cached_property
    def by_class(self) -> pd.DataFrame:
        """A row a class: precision, recall and F1, 0 where there is nothing to divide by; images, and how many are
        ``taken`` for it.
        """
        hits, images, taken = self.confusion.diagonal(), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return pd.DataFrame(
            {
                "class": self.names,
                "precision": hits / np.maximum(taken, 1),
                "recall": hits / np.maximum(images, 1),
                "f1": 2 * hits / np.maximum(images + taken, 1),
                "images": images,
                "taken": taken,
            }
        )

    @property
    def means(self) -> pd.DataFrame:
        """Two rows as those of ``by_class``: the means over classes, and the same weighted by images."""
        found, num = self.metrics, len(self.truth)
        return pd.DataFrame(
            {
                "class": ["macro mean", "weighted mean"],
                "precision": [found["macro_precision"], found["weighted_precision"]],
                "recall": [found["class_mean"], found["accuracy"]],
                "f1": [found["macro_f1"], found["weighted_f1"]],
                "images": [num, num],
                "taken": [num, num],
            }
        )

    @cached_property
    def calibration_error(self) -> float:
        """Expected calibration error: the gap between confidence and accuracy in bins of confidence, by images."""
        confidence, right = self.probabilities.max(axis=1), self.predicted == self.truth
        bins = np.minimum(np.ceil(confidence * BINS).astype(int) - 1, BINS - 1)
        gaps = np.bincount(bins, weights=confidence - right, minlength=BINS)
        return float(np.abs(gaps).sum() / len(bins))

    def units(self, metric: str, part: str | None = None) -> Units:
        """The images behind a figure, of all classes or of one; F1 is a mean over pairs of an image and a class.

        Twice the hits of a class over its images and those taken for it is the mean of the hits over both.
        """
        kept = np.ones(len(self.truth), bool)
        if part is not None:
            if part not in self.names:
                raise InputError(f"class '{part}' was not scored; there are {', '.join(self.names)}")
            kept = self.truth == self.names.index(part)
        truth, taken, cluster = self.truth[kept], self.predicted[kept], self.clusters[kept]
        right = (truth == taken).astype(np.float64)
        if metric == "macro_f1":
            pairs = (np.concatenate([right, right]), np.concatenate([truth, taken]), np.concatenate([cluster, cluster]))
            return Units(*pairs)
        if metric == "class_mean":
            return Units(right, truth, cluster)
        return Units.together({"accuracy": right, f"top{TOP}": self._in_top[kept]}[metric], cluster)

    @property
    def answers(self) -> Ints:
        """The class that each image is taken for [n]."""
        return self.predicted

    def check_same(self, other: Self) -> None:
        """Raise InputError unless ``other`` classifies the same images into the same classes."""
        same = self.names == other.names and np.array_equal(self.rows, other.rows)
        if not same or not np.array_equal(self.truth, other.truth):
            raise InputError("the two models were scored on different images or classes: prepare data once for both")

    def objective_of(self, part: str) -> float:
        """The share of right answers for one class."""
        kept = self.truth == self.names.index(part) if part in self.names else np.zeros(len(self.truth), bool)
        return float((self.predicted == self.truth)[kept].mean()) if kept.any() else float("nan")

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The classification report, worst class first."""
        return {"By class": self.by_class.sort_values("recall", kind="stable")}

    @cached_property
    def confusions(self) -> Confusions:
        """All images."""
        return Confusions(self.names, self.confusion, self.rows, self.truth, self.predicted)

    def questions(self, data: Prepared) -> Questions:
        """All images, and the most probable classes of each; whether an image is of a class, for each class."""
        del data

        def panel(at: int) -> Panel:
            truth, found = int(self.truth[at]), self.probabilities[at]
            answers = tuple(
                Item(f"{self.names[one]} {found[one]:.2f}", right=one == truth)
                for one in np.argsort(-found, kind="stable")[:TOP].tolist()
            )
            outcome = f"taken for {self.names[int(self.predicted[at])]}"
            return Panel(Item(self.names[truth], int(self.rows[at])), answers, outcome)

        own = self.probabilities[np.arange(len(self.truth)), self.truth]
        decisions = {name: (self.truth == at, self.probabilities[:, at]) for at, name in enumerate(self.names)}
        return Questions(self.predicted == self.truth, own, panel, {"images": range(len(own))}, decisions)

    @property
    def files(self) -> dict[str, str | bytes]:
        """The classification report as CSV and as Markdown, the confusion matrix as CSV and drawn, by name."""
        matrix = pd.DataFrame(self.confusion, index=pd.Index(self.names, name="class"), columns=list(self.names))
        return {
            "report.csv": pd.concat([self.by_class, self.means]).to_csv(index=False),
            "report.md": self.text,
            "confusion.csv": matrix.to_csv(),
            "confusion.png": confusion_image(self.confusion, self.names),
        }

    @property
    def text(self) -> str:
        """The classification report in Markdown, in percent, worst class first, and the most confused pairs."""
        out = io.StringIO()
        out.write("| class | precision | recall | F1 | images |\n|---|---:|---:|---:|---:|\n")
        for row in self.by_class.sort_values("recall", kind="stable").to_dict("records"):
            shares = " | ".join(f"{100 * row[name]:.2f}" for name in ("precision", "recall", "f1"))
            out.write(f"| {row['class']} | {shares} | {row['images']} |\n")
        for metric in METRICS:
            if metric.name in self.metrics:
                out.write(f"\n{metric.label} {100 * self.metrics[metric.name]:.2f}")
        out.write(f"\ncalibration error {100 * self.calibration_error:.2f}\n")
        for one, other in self.confusions.most(5):
            names = self.names[one], self.names[other]
            out.write(f"\n{self.confusion[one, other]} images of '{names[0]}' are taken for '{names[1]}'")
        return out.getvalue() + "\n"

    @cached_property
    def _in_top(self) -> Values:
        own = self.probabilities[np.arange(len(self.truth)), self.truth][:, None]
        before = np.arange(len(self.names)) < self.truth[:, None]  # the first of equals is taken, as in ``predicted``
        above = ((self.probabilities > own) | ((self.probabilities == own) & before)).sum(axis=1)
        return np.asarray(above < TOP, np.float64)


def save_class_scores(path: Path, scores: ClassScores) -> None:
    """Write all of ``scores`` to an ``.npz`` file, whole or not at all."""
    about = {"format": FORMAT, "names": scores.names}
    write_arrays(path, about, {name: getattr(scores, name) for name in COLUMNS})


def load_class_scores(path: Path) -> ClassScores:
    """Read what ``save_class_scores`` wrote; raises InputError if the file is missing or is something else."""

    def build(about: Mapping[str, Any], stored: Mapping[str, Any]) -> ClassScores:
        return ClassScores(tuple(about["names"]), **{name: stored[name] for name in COLUMNS})

    return read_arrays(path, build, version=FORMAT)
