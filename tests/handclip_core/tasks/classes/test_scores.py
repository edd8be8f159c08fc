"""Figures of classifiers against scikit-learn and slow loops."""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import compare_paired, estimate, resampled
from handclip_core.tasks.classes.scores import BINS, ClassScores, load_class_scores, save_class_scores

NAMES = ("riding a horse", "cooking", "jumping", "reading", "fishing", "waving", "sleeping")


def scores(seed: int = 0, *, num: int = 90, sharp: float = 2.0, classes: int = 6) -> ClassScores:
    """Images of all but the last class, two a group; the last one is sometimes predicted."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, num)
    logits = rng.standard_normal((num, len(NAMES))) + sharp * np.eye(len(NAMES))[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return ClassScores(NAMES, np.arange(num), truth, np.arange(num) // 2, probabilities)


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    found = scores(seed)
    truth, taken, figures = found.truth, found.predicted, found.metrics
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(truth, taken))
    assert figures["class_mean"] == pytest.approx(sk.balanced_accuracy_score(truth, taken))
    assert figures["macro_f1"] == pytest.approx(sk.f1_score(truth, taken, average="macro"))
    assert figures["weighted_f1"] == pytest.approx(sk.f1_score(truth, taken, average="weighted"))
    precision = sk.precision_score(truth, taken, average="macro", zero_division=0)
    assert figures["macro_precision"] == pytest.approx(precision)
    weighted = sk.precision_score(truth, taken, average="weighted", zero_division=0)
    assert figures["weighted_precision"] == pytest.approx(weighted)
    top = sk.top_k_accuracy_score(truth, found.probabilities, k=5, labels=range(len(NAMES)))
    assert figures["top5"] == pytest.approx(top)
    assert np.array_equal(found.confusion, sk.confusion_matrix(truth, taken, labels=range(len(NAMES))))
    report = sk.classification_report(truth, taken, labels=range(len(NAMES)), output_dict=True, zero_division=0)
    for number, row in enumerate(found.by_class.to_dict("records")):
        expected = report[str(number)]
        assert row["images"] == expected["support"]
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(
            [expected["precision"], expected["recall"], expected["f1-score"]]
        )


def test_the_report_ends_with_the_means_of_scikit_learns() -> None:
    found = scores(classes=len(NAMES))
    written = pd.read_csv(StringIO(str(found.files["report.csv"])), index_col="class")
    report = sk.classification_report(found.truth, found.predicted, output_dict=True, zero_division=0)
    for name, theirs in (("macro mean", "macro avg"), ("weighted mean", "weighted avg")):
        row = written.loc[name]
        assert [row["precision"], row["recall"], row["f1"], row["images"]] == pytest.approx(
            [report[theirs][part] for part in ("precision", "recall", "f1-score", "support")]
        )
    assert list(written.index) == [*NAMES, "macro mean", "weighted mean"]


def test_classes_that_nobody_shows_or_names_are_in_no_mean() -> None:
    found = scores(sharp=9.0, classes=4)
    assert set(found.predicted) <= set(range(4))
    assert found.metrics["macro_f1"] == pytest.approx(sk.f1_score(found.truth, found.predicted, average="macro"))


def test_of_equal_probabilities_the_first_classes_are_in_the_top() -> None:
    truth, flat = np.arange(7), np.full((7, len(NAMES)), 1 / len(NAMES))
    found = ClassScores(NAMES, np.arange(7), truth, np.arange(7), flat)
    assert found.metrics["top5"] == pytest.approx(5 / 7)
    assert found.metrics["accuracy"] == pytest.approx(1 / 7)


def test_the_calibration_error_is_that_of_a_slow_loop() -> None:
    found, expected = scores(), 0.0
    confidence, right = found.probabilities.max(axis=1), found.predicted == found.truth
    for number in range(BINS):
        inside = [i for i, one in enumerate(confidence) if number / BINS < one <= (number + 1) / BINS]
        if inside:
            gap = np.mean([confidence[i] for i in inside]) - np.mean([right[i] for i in inside])
            expected += abs(gap) * len(inside) / len(confidence)
    assert found.calibration_error == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "class_mean", "top5"])
def test_the_resampled_figure_is_the_figure_and_every_resample_that_of_the_drawn_images(metric: str) -> None:
    found = scores(num=30)
    whole = resampled(found, metric, seed=4)
    assert whole.value == pytest.approx(found.metrics[metric])
    assert whole.num_identities == 15, "images of a group are drawn together"
    drawn = np.random.default_rng(4).integers(0, 15, size=(len(whole.samples), 15))
    for sample, groups in list(zip(whole.samples, drawn, strict=True))[:20]:
        rows = np.concatenate([np.flatnonzero(found.clusters == group) for group in groups])
        part = ClassScores(NAMES, rows, found.truth[rows], found.clusters[rows], found.probabilities[rows])
        assert sample == pytest.approx(part.metrics[metric])


def test_a_better_classifier_beats_a_worse_one_and_one_class_can_be_looked_at() -> None:
    gap = compare_paired(scores(sharp=5.0), scores(sharp=1.0), "accuracy")
    assert gap.low > 0
    assert gap.probability > 0.99
    found = scores()
    kept = found.truth == 2
    assert estimate(found, "accuracy", part=NAMES[2]).value == pytest.approx(np.mean(found.predicted[kept] == 2))
    assert found.objective_of(NAMES[2]) == pytest.approx(np.mean(found.predicted[kept] == 2))
    with pytest.raises(InputError, match="class 'dancing' was not scored"):
        estimate(found, "accuracy", part="dancing")


def test_other_images_are_not_compared() -> None:
    with pytest.raises(InputError, match="different images or classes"):
        compare_paired(scores(), scores(num=40), "accuracy")


def test_scores_come_back_from_a_file(tmp_path: Path) -> None:
    found = scores()
    save_class_scores(tmp_path / "a" / "scores.npz", found)
    again = load_class_scores(tmp_path / "a" / "scores.npz")
    assert again.metrics == found.metrics
    assert compare_paired(found, again, "macro_f1").difference == 0
    with pytest.raises(InputError, match="no such file"):
        load_class_scores(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no scores")
    with pytest.raises(InputError, match="not a file of scores"):
        load_class_scores(tmp_path / "text.npz")


def test_the_report_names_the_worst_class_first_and_the_most_confused_pair() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1])
    taken = np.array([0, 0, 0, 0, 0, 1])
    found = ClassScores(NAMES[:2], np.arange(6), truth, np.arange(6), np.eye(2)[taken])
    assert found.confusions.most(5) == [(1, 0)]
    assert found.confusions.shown_by(1, 0) == [3, 4]
    assert found.tables["By class"]["class"].tolist() == ["cooking", "riding a horse"]
    rows = [line.split("|")[1].strip() for line in found.text.splitlines() if line.startswith("| ")]
    assert rows == ["class", "cooking", "riding a horse"]
    assert found.files["confusion.csv"].splitlines()[2] == "cooking,2,1"
    assert found.files["report.csv"].splitlines()[0] == "class,precision,recall,f1,images,taken"
