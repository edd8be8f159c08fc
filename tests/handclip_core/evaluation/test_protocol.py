import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handclip_core.data.manifest import GallerySplit
from handclip_core.errors import InputError
from handclip_core.evaluation import gallery_splits as draws_module
from handclip_core.evaluation.protocol import METRICS, GalleryKind, cross_aspect_scores, score_gallery_splits

ASPECTS = ("dorsal right", "dorsal left", "palmar right", "unknown")


def people(
    num_identities: int = 9, images: int = 4, aspects: tuple[str, ...] = ASPECTS, num_draws: int = 3, seed: int = 0
) -> tuple[NDArray[np.float64], list[str], list[str], list[GallerySplit]]:
    """Noisy embeddings of identities whose aspects differ, with draws of one gallery image each."""
    rng = np.random.default_rng(seed)
    keys = [
        (person, aspect) for aspect in range(len(aspects)) for person in range(num_identities) for _ in range(images)
    ]
    centres = rng.standard_normal((num_identities, 8))
    sides = rng.standard_normal((len(aspects), 8))
    noise = rng.standard_normal((len(keys), 8))
    embeddings = np.array([centres[p] + sides[a] for p, a in keys]) + noise
    draws = [random_draw(rng, keys, aspects) for _ in range(num_draws)]
    return embeddings, [f"identity {p}" for p, _ in keys], [aspects[a] for _, a in keys], draws


def random_draw(rng: np.random.Generator, keys: list[tuple[int, int]], aspects: tuple[str, ...]) -> GallerySplit:
    gallery: dict[str, Any] = {aspect: [] for aspect in aspects}
    query: dict[str, Any] = {aspect: [] for aspect in aspects}
    for key in dict.fromkeys(keys):
        rows = [row for row, other in enumerate(keys) if other == key]
        chosen = int(rng.choice(rows))
        gallery[aspects[key[1]]].append(chosen)
        query[aspects[key[1]]] += [row for row in rows if row != chosen]
    return GallerySplit(gallery=gallery, query=query)


def slow_ap(embeddings: NDArray[np.float64], query: int, gallery: list[tuple[int, bool]]) -> float:
    def cosine(row: int) -> float:
        left, right = embeddings[query], embeddings[row]
        return float(left @ right / np.sqrt((left @ left) * (right @ right)))

    ranking = [match for _, match in sorted((-cosine(row), match) for row, match in gallery)]
    hits = [index + 1 for index, match in enumerate(ranking) if match]
    return sum((j + 1) / rank for j, rank in enumerate(hits)) / len(hits)


@pytest.mark.parametrize("kind", list(GalleryKind))
def test_agrees_with_a_plain_loop_over_draws(kind: GalleryKind) -> None:
    embeddings, identities, _, draws = people()
    scores = score_gallery_splits(
        torch.from_numpy(embeddings), np.arange(len(embeddings)), draws, identities, gallery=kind
    )
    means = []
    for aspect in ASPECTS:
        by_draw = []
        for draw in draws:
            aps = []
            for query in draw.query[aspect]:
                own = [(row, identities[row] == identities[query]) for row in draw.gallery[aspect]]
                others = [(row, False) for name in ASPECTS if name != aspect for row in draw.gallery[name]]
                aps.append(slow_ap(embeddings, query, own + (others if kind is GalleryKind.ALL else [])))
            by_draw.append(np.mean(aps))
        assert scores.per_aspect[aspect].map.mean == pytest.approx(np.mean(by_draw), abs=1e-9)
        assert scores.per_aspect[aspect].map.sd == pytest.approx(np.std(by_draw, ddof=1), abs=1e-9)
        means.append(np.mean(by_draw))
    assert scores.overall.map.mean == pytest.approx(np.mean(means), abs=1e-9)
    assert scores.num_unmatched == 0
    assert scores.num_queries == len(scores.queries.ap) == 3 * 4 * 9 * 3


def test_one_relevant_item_ties_both_definitions_together() -> None:
    embeddings, identities, _, draws = people()
    overall = score_gallery_splits(embeddings, np.arange(len(embeddings)), draws, identities).overall
    assert overall.map.mean == pytest.approx(2 * overall.map_trapezoid.mean - overall.cmc1.mean, abs=1e-12)
    assert overall.map.mean == pytest.approx(overall.minp.mean, abs=1e-12)


def test_large_sets_are_scored_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, identities, _, draws = people()
    whole = score_gallery_splits(embeddings, np.arange(len(embeddings)), draws, identities)
    monkeypatch.setattr(draws_module, "TABLE_ELEMENTS", 10)
    monkeypatch.setattr(draws_module, "BLOCK_ELEMENTS", 100)
    np.testing.assert_array_equal(
        score_gallery_splits(embeddings, np.arange(len(embeddings)), draws, identities).queries.ap, whole.queries.ap
    )


def test_order_of_embeddings_does_not_matter() -> None:
    embeddings, identities, _, draws = people(images=3)
    embeddings = np.repeat(embeddings[::2], 2, axis=0)[: len(embeddings)]
    order = np.random.default_rng(3).permutation(len(embeddings))
    plain = score_gallery_splits(embeddings, np.arange(len(embeddings)), draws, identities)
    mixed = score_gallery_splits(embeddings[order].astype(np.float64), order, draws, identities)
    assert mixed.overall == plain.overall


def test_distractors_only_stand_in_galleries_and_are_counted_once() -> None:
    embeddings, identities, _, draws = people(num_draws=2)
    extra = np.random.default_rng(5).standard_normal((6, 8))
    rows = tuple(range(len(embeddings), len(embeddings) + 6))
    with_extra = [
        draw.model_copy(update={"gallery": {name: (*chosen, *rows) for name, chosen in draw.gallery.items()}})
        for draw in draws
    ]
    every = np.concatenate([embeddings, extra])
    people_and_extra = [*identities, *(f"extra {row}" for row in rows)]
    plain = score_gallery_splits(embeddings, np.arange(len(embeddings)), draws, identities)
    crowded = score_gallery_splits(every, np.arange(len(every)), with_extra, people_and_extra)
    assert crowded.overall.map.mean < plain.overall.map.mean
    assert crowded.num_queries == plain.num_queries
    once = [draws[0].model_copy(update={"gallery": {**draws[0].gallery, "extra": rows}})]
    apart = score_gallery_splits(every, np.arange(len(every)), once, people_and_extra)
    assert apart.overall.map.mean == pytest.approx(crowded.per_draw["map"][0].mean(), abs=1e-12)
    assert apart.without_query == ("extra",)


def test_one_aspect_has_the_same_gallery_either_way() -> None:
    embeddings, identities, _, draws = people(aspects=("unknown",), num_draws=1)
    own, both = (
        score_gallery_splits(embeddings, np.arange(len(embeddings)), draws, identities, gallery=kind)
        for kind in GalleryKind
    )
    assert dataclasses.asdict(own.overall) == dataclasses.asdict(both.overall)
    assert own.overall.map.sd is None


def test_across_aspects_the_same_person_is_the_match() -> None:
    embeddings, identities, _, draws = people(aspects=ASPECTS[:2], num_draws=2)
    scores = cross_aspect_scores(embeddings, np.arange(len(embeddings)), draws, identities)
    assert set(scores) == {(ASPECTS[0], ASPECTS[1]), (ASPECTS[1], ASPECTS[0])}
    by_draw = [
        np.mean(
            [
                slow_ap(
                    embeddings, query, [(row, identities[row] == identities[query]) for row in draw.gallery[ASPECTS[1]]]
                )
                for query in draw.query[ASPECTS[0]]
            ]
        )
        for draw in draws
    ]
    assert scores[ASPECTS[0], ASPECTS[1]].overall.map.mean == pytest.approx(np.mean(by_draw), abs=1e-9)


def test_queries_without_a_match_are_counted() -> None:
    embeddings, identities, _, draws = people(aspects=("unknown",), num_draws=2)
    lost = [draw.model_copy(update={"gallery": {"unknown": draw.gallery["unknown"][1:]}}) for draw in draws]
    scores = score_gallery_splits(embeddings, np.arange(len(embeddings)), lost, identities)
    assert scores.num_unmatched == 2 * 3
    assert np.isnan(scores.queries.ap).sum() == 6
    assert set(scores.per_draw) == set(METRICS)


def test_what_cannot_be_scored_is_named() -> None:
    embeddings, identities, _, draws = people(aspects=("unknown",), num_draws=1)
    rows = np.arange(len(embeddings))
    with pytest.raises(InputError, match="manifest row 35, which has no embedding"):
        score_gallery_splits(embeddings[:-1], rows[:-1], draws, identities)
    with pytest.raises(InputError, match="35 embeddings were given for 36"):
        score_gallery_splits(embeddings[:-1], rows, draws, identities)
    with pytest.raises(InputError, match="more than one embedding"):
        score_gallery_splits(embeddings, np.zeros(36, dtype=int), draws, identities)
    with pytest.raises(InputError, match="two images"):
        score_gallery_splits(embeddings, rows, [draws[0].model_copy(update={"query": {"unknown": ()}})], identities)
    with pytest.raises(InputError, match="no draws"):
        score_gallery_splits(embeddings, rows, [], identities)
    nobody = [draws[0].model_copy(update={"gallery": {"unknown": ()}})]
    with pytest.raises(InputError, match="aspect 'unknown', draw 0: the gallery is empty"):
        score_gallery_splits(embeddings, rows, nobody, identities)
