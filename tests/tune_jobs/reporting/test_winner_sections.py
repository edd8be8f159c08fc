from pathlib import Path

import numpy as np
import pytest
import torch

from handclip_core.data.sources import data_folder, open_data
from handclip_core.evaluation.protocol import score_gallery_splits
from handclip_core.paths import cache_root
from handclip_core.tasks.identities.task import Identities
from tests.conftest import TINY_DATA
from tests.tune_jobs.winners import SETTINGS, write_winner
from tune_jobs.reporting import winner_sections
from tune_jobs.reporting.winner_sections import Winner


@pytest.fixture
def winner(tmp_path: Path) -> Winner:
    return write_winner(tmp_path)


def test_ranks_and_precision_are_those_of_the_protocol(winner: Winner) -> None:
    search = winner.search
    assert search is not None
    rows = np.concatenate([search.query_rows, search.gallery_rows])
    embeddings = torch.from_numpy(np.vstack([search.query, search.gallery]))
    identities = search.data.manifest["identity"].to_numpy(dtype=str)
    split = search.data.protocol.draws["val"][0]
    truth = score_gallery_splits(embeddings, rows, [split], identities).queries
    place = {int(row): at for at, row in enumerate(search.query_rows)}
    order = [place[int(row)] for row in truth.row]
    assert search.first_rank[order].tolist() == truth.first_rank.tolist()
    np.testing.assert_allclose(search.average_precision[order], truth.ap, atol=1e-6)


def test_curves_rise_within_their_bands_and_thresholds_accept_what_is_said(winner: Winner) -> None:
    search = winner.search
    assert search is not None
    cmc, roc, det, histogram = winner_sections.curves(winner).figures
    for figure in (cmc, roc):
        around, curve = figure.data
        assert np.all(np.diff(curve["y"]) >= 0)
        num = len(curve["x"])
        high, low = np.array(around["y"][:num]), np.array(around["y"][num:])[::-1]
        assert np.all((low <= high) & (low <= np.array(curve["y"]) + 1e-9))
    floor = 50 / np.sum(search.genuine)
    np.testing.assert_allclose(det.data[1]["y"], np.maximum(100 - np.array(roc.data[1]["y"]), floor))
    assert np.all(np.array(det.data[0]["y"]) >= floor), "no zero, which has no logarithm"
    assert cmc.data[1]["y"][0] == pytest.approx(100 * np.mean(search.first_rank == 1))
    impostors = search.similarity[search.same_aspect & ~search.genuine]
    threshold = float(histogram.caption.split("threshold ")[-1].split()[0])
    assert np.mean(impostors >= threshold) <= 0.1
    assert np.mean(impostors >= threshold - 0.05) >= 0.1 - 2 / len(impostors)


def test_queries_are_shown_with_what_they_find_and_who_is_taken_for_whom(winner: Winner) -> None:
    search, section = winner.search, winner_sections.images(winner)
    assert search is not None
    ours, theirs = search.identities
    first = search.similarity.argmax(axis=1)
    wrong = int(np.sum(ours != theirs[first]))
    assert section.lines[0].startswith(f"{wrong} of {len(ours)} queries find somebody else first")
    best = section.strips[-1]
    assert best.images[0].source.startswith("data:image/jpeg;base64,")
    assert best.images[1].mark == "right"
    assert all(image.mark in ("right", "wrong", "") for strip in section.strips for image in strip.images)
    assert sum(len(trace["x"]) for trace in section.figures[0].data) == len(ours) + len(theirs)


def test_groups_come_from_the_results_that_were_kept(winner: Winner) -> None:
    assert "not kept" in winner_sections.groups(winner).missing
    prepared = open_data(TINY_DATA, cache=cache_root())
    draws = prepared.protocol.draws["val"]
    identities = prepared.manifest["identity"].to_numpy(dtype=str)
    rows = np.arange(len(identities))
    embeddings = torch.randn(len(rows), 8, generator=torch.Generator().manual_seed(0))
    scores = score_gallery_splits(embeddings, rows, draws, identities)
    Identities().save(winner.folder / "scores.npz", scores)
    known = Winner(winner.folder, SETTINGS)
    table = winner_sections.groups(known).tables[0]
    assert {str(row[1]) for row in table.rows if row[0] == "aspect"} == set(scores.aspects)
    assert known.interval is not None
    assert known.interval.value == pytest.approx(scores.metrics["map"])
    assert known.interval.low < known.interval.value < known.interval.high


def test_without_data_or_results_sections_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winner: Winner
) -> None:
    nobody = Winner(tmp_path / "none", SETTINGS)
    for section in (winner_sections.curves, winner_sections.images, winner_sections.groups):
        said = section(nobody).missing
        assert "exported no winner yet" in said
        assert said.endswith(f"tune_jobs/sweep.py {tmp_path} --resume")
    monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path / "cache"))
    assert "not on this machine" in winner_sections.curves(Winner(winner.folder, SETTINGS)).missing
    assert not data_folder(TINY_DATA, cache=cache_root()).exists(), "a report draws no data"
