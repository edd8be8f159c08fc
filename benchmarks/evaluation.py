"""Scoring beside the loop that the field's evaluation code runs: one argsort a query.

Run: python benchmarks/evaluation.py [--quick]

Prints, for 5,000 queries in a gallery of 20,000 and for the ten draws of 11k Hands on the gallery of all aspects, the
time of both in one run (the best of five; of the loop, one), their ratio, and how far their scores differ.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.data.manifest import GallerySplit
from handclip_core.evaluation.protocol import GalleryKind, score_gallery_splits
from handclip_core.evaluation.retrieval import embedding_scores, retrieval_scores

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Result = tuple[float, float]
"""mAP by trapezoid, and rank one."""
ASPECTS = {"dorsal right": (71, 1042), "dorsal left": (73, 1061), "palmar right": (71, 988), "palmar left": (75, 1023)}
"""Identities and images of each aspect in the published test split."""
NUM_GALLERY_SPLITS = 10
DIMENSIONS = 512
NOISE = 2.0
"""Puts two images of an identity at a cosine of 0.2, where the match of most queries, not of all, stands first."""
TARGET_SCORING = 15
TARGET_DRAWS = 10


def field_query(similarity: Floats, query_id: int, gallery_ids: Ints) -> tuple[float, Tensor]:
    """Trapezoid AP and CMC [G] of one query, in the steps of the published evaluation scripts."""
    ranking = np.argsort(similarity)[::-1]
    matches = np.argwhere(gallery_ids == query_id)
    cmc = torch.zeros(len(ranking), dtype=torch.int32)
    if matches.size == 0:
        cmc[0] = -1
        return 0.0, cmc
    places = np.argwhere(np.isin(ranking, matches)).ravel()
    cmc[places[0] :] = 1
    ap = 0.0
    for found in range(len(places)):
        before = found / places[found] if places[found] else 1.0
        ap += (before + (found + 1) / (places[found] + 1)) / 2 / len(places)
    return ap, cmc


def field_scores(rows: Callable[[int], Floats], query_ids: Ints, gallery_ids: Ints) -> Result:
    """Scores of queries whose similarities ``rows`` gives one by one."""
    total, cmc = 0.0, torch.zeros(len(gallery_ids), dtype=torch.int32)
    for query in range(len(query_ids)):
        ap, found = field_query(rows(query), query_ids[query], gallery_ids)
        if found[0] == -1:
            continue
        total += ap
        cmc = cmc + found
    return total / len(query_ids), float(cmc[0] / len(query_ids))


def field_products(queries: Tensor, gallery: Tensor) -> Callable[[int], Floats]:
    """Similarities of one query at a time, as a product of the gallery with one column."""

    def product(query: int) -> Floats:
        found: Floats = torch.mm(gallery, queries[query].view(-1, 1)).squeeze(1).numpy()
        return found

    return product


def unit_rows(rng: np.random.Generator, ids: Ints) -> Floats:
    """Embeddings [N, D] of identities: a centre each, and noise."""
    centres = rng.standard_normal((int(ids.max()) + 1, DIMENSIONS))
    rows = centres[ids] + NOISE * rng.standard_normal((len(ids), DIMENSIONS))
    unit: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def timed(work: Callable[[], Result], repeats: int) -> tuple[Result, float]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def report(name: str, ours: Callable[[], Result], loop: tuple[Result, float], goal: int | None) -> None:
    found, found_s = timed(ours, 5)
    gap = max(abs(left - right) for left, right in zip(found, loop[0], strict=True))
    asked = f"(goal {goal}x)" if goal else ""
    print(f"{name:<56} {found_s:7.3f} s {loop[1]:7.2f} s {loop[1] / found_s:6.1f}x {asked:<11} {gap:.0e}", flush=True)


def bench_scoring(num_queries: int, num_gallery: int, matches: int) -> None:
    """Scores from similarities, and from embeddings: by one product, and as `embedding_scores` in bounded memory."""
    rng = np.random.default_rng(0)
    gallery_ids = rng.permutation(num_gallery) // matches
    query_ids = rng.choice(gallery_ids, num_queries)
    both = unit_rows(rng, np.concatenate([query_ids, gallery_ids]))
    query, gallery = torch.from_numpy(both[:num_queries]), torch.from_numpy(both[num_queries:])
    similarity = (query @ gallery.T).numpy()

    def from_similarity() -> Result:
        scores = retrieval_scores(similarity, query_ids, gallery_ids)
        return scores.map_trapezoid, float(scores.cmc[0])

    def from_product() -> Result:
        scores = retrieval_scores(query @ gallery.T, query_ids, gallery_ids)
        return scores.map_trapezoid, float(scores.cmc[0])

    def from_embeddings() -> Result:
        scores = embedding_scores(query, gallery, query_ids, gallery_ids)
        return scores.map_trapezoid, float(scores.cmc[0])

    name = f"{num_queries} x {num_gallery}, {matches} match{'es' if matches > 1 else ''}"
    given = timed(lambda: field_scores(lambda row: similarity[row], query_ids, gallery_ids), 1)
    report(f"{name}, R1 {given[0][1]:.2f}, from similarities", from_similarity, given, TARGET_SCORING)
    whole = timed(lambda: field_scores(field_products(query, gallery), query_ids, gallery_ids), 1)
    report(f"{name}, from embeddings, one product", from_product, whole, None)
    report(f"{name}, from embeddings, in bounded memory", from_embeddings, whole, None)


def eleven_k(rng: np.random.Generator, shrink: int) -> tuple[Floats, Ints, list[GallerySplit]]:
    """Embeddings, identities and draws of the size of the published test split."""
    people: list[int] = []
    spans: dict[str, list[list[int]]] = {}
    for aspect, (num_identities, num_images) in ASPECTS.items():
        extra = rng.integers(0, num_identities, max(num_images // shrink - 2 * num_identities, 0))
        owners = np.concatenate([np.arange(num_identities), np.arange(num_identities), extra])
        spans[aspect] = [(len(people) + np.flatnonzero(owners == person)).tolist() for person in range(num_identities)]
        people += owners.tolist()
    draws = []
    for _ in range(NUM_GALLERY_SPLITS):
        gallery = {aspect: tuple(int(rng.choice(rows)) for rows in groups) for aspect, groups in spans.items()}
        query = {
            aspect: tuple(row for rows in groups for row in rows if row not in set(gallery[aspect]))
            for aspect, groups in spans.items()
        }
        draws.append(GallerySplit(gallery=gallery, query=query))
    owners = np.array(people)
    return unit_rows(rng, owners), owners, draws


def field_draw(embeddings: Tensor, people: Ints, draw: GallerySplit, aspect: str) -> Result:
    """One draw of one aspect on the gallery of all aspects, whose identities get other numbers, query by query."""
    names = [aspect, *(name for name in ASPECTS if name != aspect)]
    gallery = [row for name in names for row in draw.gallery[name]]
    gallery_ids = np.concatenate([people[list(draw.gallery[name])] + 1000 * i for i, name in enumerate(names)])
    query = list(draw.query[aspect])
    return field_scores(field_products(embeddings[query], embeddings[gallery]), people[query], gallery_ids)


def bench_draws(shrink: int) -> None:
    embeddings, people, draws = eleven_k(np.random.default_rng(1), shrink)
    num_queries = sum(len(rows) for draw in draws for rows in draw.query.values())

    def ours() -> Result:
        overall = score_gallery_splits(
            embeddings, np.arange(len(people)), draws, people, gallery=GalleryKind.ALL
        ).overall
        return overall.map_trapezoid.mean, overall.cmc1.mean

    def loop() -> Result:
        rows = torch.from_numpy(embeddings)
        cells = [field_draw(rows, people, draw, aspect) for draw in draws for aspect in ASPECTS]
        return float(np.mean([cell[0] for cell in cells])), float(np.mean([cell[1] for cell in cells]))

    report(f"{NUM_GALLERY_SPLITS} draws, {num_queries} searches, from embeddings", ours, timed(loop, 1), TARGET_DRAWS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, to see that it runs")
    shrink = 10 if parser.parse_args().quick else 1
    print(f"{f'{torch.get_num_threads()} threads':<56} {'ours':>9} {'loop':>9} {'ratio':>7} {'':<11} gap")
    bench_draws(shrink)
    for matches in (1, 20):
        bench_scoring(5000 // shrink, 20000 // shrink, matches)


if __name__ == "__main__":
    main()
