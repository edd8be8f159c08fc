"""Reports of runs: what outsiders can check, and what may be asked without training again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from handclip_core.data.eleven_k import prepare_eleven_k
from handclip_core.data.manifest import Cut, load_prepared, write_prepared
from handclip_core.data.sources import PreparedData
from handclip_core.errors import InputError
from handclip_core.evaluation.protocol import Enrolled, GalleryKind
from handclip_core.evaluation.similarity import Distance
from handclip_core.local import train_into
from handclip_core.reports.measure import View
from handclip_core.reports.report import compare_runs, evaluate_run
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from handclip_core.tasks.identities.data import IdentityData
from handclip_core.types import Aspect
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_context: ExperimentContext) -> Path:
    settings = Experiment(strategy=ZeroShot(), data=TINY_DATA, backbone=tiny_context.settings)
    return train_into(tmp_path_factory.mktemp("report") / "run", settings, device=CPU).folder


def by_hand(folder: Path, context: ExperimentContext, kind: GalleryKind) -> tuple[float, float]:
    """Mean mAP and rank-1 over aspects and gallery splits from the kept files, query by query."""
    vectors = np.load(folder / "embeddings_test.npy")
    table = pd.read_csv(folder / "embeddings_test.csv", dtype={"identity": str})
    place = {row: position for position, row in enumerate(table["row"])}
    who, sides = table["identity"].tolist(), table["aspect"].tolist()
    found: dict[str, list[NDArray[np.float64]]] = {}
    dataset = context.dataset
    assert isinstance(dataset, IdentityData)
    for split in dataset.gallery_splits("test"):
        for aspect, queries in split.query.items():
            own_or_all = [part for name, part in split.gallery.items() if kind is GalleryKind.ALL or name == aspect]
            rows = [row for part in own_or_all for row in part]
            scores = []
            for query in queries:
                score = vectors[[place[row] for row in rows]].astype(np.float64) @ vectors[place[query]]
                order = [rows[at] for at in np.argsort(-score)]
                same = [who[place[row]] == who[place[query]] and sides[place[row]] == aspect for row in order]
                ranks = np.flatnonzero(same) + 1
                scores.append([np.mean(np.arange(1, len(ranks) + 1) / ranks), same[0]])
            found.setdefault(aspect, []).append(np.mean(scores, axis=0))
    means = np.array([np.mean(values, axis=0) for values in found.values()]).mean(axis=0)
    return float(means[0]), float(means[1])


@pytest.mark.parametrize("kind", GalleryKind)
def test_a_figure_can_be_computed_from_what_is_kept(
    run: Path, tiny_context: ExperimentContext, kind: GalleryKind
) -> None:
    report = evaluate_run(run, device=CPU, view=View("test", gallery=kind), keep=True)
    overall = report.values["scores"]["overall"]
    map_, first = by_hand(run, tiny_context, kind)
    assert overall["map"]["mean"] == pytest.approx(map_, abs=1e-6)
    assert overall["cmc1"]["mean"] == pytest.approx(first, abs=1e-6)
    kept = pd.read_csv(run / "embeddings_test.csv")
    assert kept["path"].tolist() == tiny_context.prepared.manifest["path"].iloc[kept["row"]].tolist()


def test_tables_are_plain_text_without_a_cut_cell(run: Path) -> None:
    text = evaluate_run(run, device=CPU, view=View("val")).text
    assert "\n\n\n" not in text
    assert not set(text) & set("…┏┡━┃│─└")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert any(run.name in line for line in table)
    assert any("people | images |" in line for line in table)


def test_nothing_is_kept_unless_asked_for_and_comparisons_keep_it_too(run: Path) -> None:
    for path in run.glob("embeddings_*"):
        path.unlink()
    compare_runs([run], device=CPU, view=View("val"))
    assert not list(run.glob("embeddings_*"))
    compare_runs([run], device=CPU, view=View("val"), keep=True)
    assert sorted(path.name for path in run.glob("embeddings_*")) == ["embeddings_val.csv", "embeddings_val.npy"]


def test_the_other_kind_of_gallery_is_another_figure(run: Path) -> None:
    own, all_ = (
        evaluate_run(run, device=CPU, view=View("val", gallery=kind)).values["scores"]["overall"]["map"]["mean"]
        for kind in (GalleryKind.OWN, GalleryKind.ALL)
    )
    assert own > all_
    written = {path.name: json.loads(path.read_text()) for path in run.glob("evaluation_val*.json")}
    assert {name: values["gallery"] for name, values in written.items()} == {
        "evaluation_val.json": "all",
        "evaluation_val_own.json": "own",
    }


def test_roles_and_distance_are_options_and_settings(
    run: Path, tiny_context: ExperimentContext, tmp_path: Path
) -> None:
    asked = View("val", enrolled=Enrolled.REST, distance=Distance.EUCLIDEAN)
    found = evaluate_run(run, device=CPU, view=asked).values
    assert (run / "evaluation_val_rest_euclidean.json").exists()
    assert (found["enrolled"], found["distance"], found["gallery"]) == ("rest", "euclidean", "all")
    usual = evaluate_run(run, device=CPU, view=View("val")).values
    assert found["scores"]["num_queries"] < usual["scores"]["num_queries"]
    data = TINY_DATA.model_copy(update={"enrolled": Enrolled.REST, "distance": Distance.EUCLIDEAN})
    settings = Experiment(strategy=ZeroShot(), data=data, backbone=tiny_context.settings)
    trained = train_into(tmp_path / "run", settings, device=CPU)
    by_settings = evaluate_run(tmp_path / "run", device=CPU, view=View("val")).values
    assert by_settings["scores"] == found["scores"]
    assert (tmp_path / "run" / "evaluation_val.json").exists()
    assert trained.best["map"] == pytest.approx(found["scores"]["overall"]["map"]["mean"], abs=1e-12)
    compare_runs([run], device=CPU, view=asked)
    reranked = evaluate_run(tmp_path / "run", device=CPU, view=View("val", ranking="rerank")).values
    assert reranked["distance"] == "cosine"
    with pytest.raises(InputError, match="--ranking expand goes by the cosine"):
        View("val", ranking="expand", distance=Distance.EUCLIDEAN)


@pytest.mark.parametrize("cut", Cut)
def test_runs_on_the_published_cut_stand_beside_published_figures(
    cut: Cut, tiny_context: ExperimentContext, tmp_path: Path
) -> None:
    prepare_eleven_k(tiny_context.prepared.folder / "pictures", tmp_path / "data", cut=Cut.COMMON)
    prepared = load_prepared(tmp_path / "data")
    write_prepared(replace(prepared, protocol=prepared.protocol.model_copy(update={"cut": cut})))
    data = PreparedData(source="prepared", folder=tmp_path / "data", aspects=(Aspect.PALMAR_LEFT,))
    settings = Experiment(strategy=ZeroShot(), data=data, backbone=tiny_context.settings)
    folder = train_into(tmp_path / "run", settings, device=CPU).folder
    table = compare_runs([folder], device=CPU, view=View("test")).markdown
    assert ("| MBA-Net | 97.42 | 97.84 | 98.26 |" in table) is (cut is Cut.PUBLISHED)
    assert ("the data are cut otherwise" in table) is (cut is Cut.COMMON)
    assert "published" not in compare_runs([folder], device=CPU, view=View("val")).markdown
    assert ("without flip" in table) is (cut is Cut.PUBLISHED)
    for view in (View("test", ranking="rerank"), View("test", hide_aspects=True)):
        assert "MBA-Net" not in compare_runs([folder], device=CPU, view=view).markdown
    if cut is Cut.PUBLISHED:
        own = next(line for line in table.splitlines() if line.startswith("| run |") and line.endswith("| here |"))
        found = evaluate_run(folder, device=CPU, view=View("test")).values["scores"]["overall"]
        cells = [float(cell) for cell in own.split("|")[2:5]]
        expected = [100 * found[name]["mean"] for name in ("cmc1", "map_trapezoid", "map")]
        assert cells == pytest.approx(expected, abs=0.005)
