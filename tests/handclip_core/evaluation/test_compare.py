import csv
import io

import numpy as np
import pytest

from handclip_core.data.manifest import GallerySplit
from handclip_core.errors import InputError
from handclip_core.evaluation.compare import as_csv, compare_models, markdown
from handclip_core.evaluation.protocol import METRICS, GalleryKind, ProtocolScores, score_gallery_splits

PEOPLE, IMAGES = 12, 4


def model(noise: float, *, seed: int = 0, aspects: tuple[str, ...] = ("dorsal", "palmar")) -> ProtocolScores:
    rng = np.random.default_rng(seed)
    person = np.tile(np.repeat(np.arange(PEOPLE), IMAGES), len(aspects))
    embeddings = rng.standard_normal((PEOPLE, 8))[person] + noise * rng.standard_normal((len(person), 8))
    step = PEOPLE * IMAGES
    gallery = {name: tuple(range(step * i, step * (i + 1), IMAGES)) for i, name in enumerate(aspects)}
    query = {name: tuple(r for r in range(step * i, step * (i + 1)) if r % IMAGES) for i, name in enumerate(aspects)}
    draws = [GallerySplit(gallery=gallery, query=query)] * 2
    return score_gallery_splits(embeddings, np.arange(len(person)), draws, person, gallery=GalleryKind.OWN)


def test_the_table_shows_every_model_beside_the_baseline() -> None:
    models = {"zero-shot": model(1.2), "full | tuned": model(0.3)}
    table = markdown(compare_models(models))
    lines = table.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").replace("\\|", "/").split("|")] for line in lines[:4]]
    assert {len(line) for line in cells} == {11}
    assert cells[2][0] == "zero-shot"
    assert cells[2][-3:] == ["–", "–", "–"]
    assert cells[3][0] == "full / tuned"
    assert float(cells[3][1]) == pytest.approx(100 * models["full | tuned"].overall.map.mean, abs=0.005)
    gap = 100 * (models["full | tuned"].overall.map.mean - models["zero-shot"].overall.map.mean)
    assert float(cells[3][8]) == pytest.approx(gap, abs=0.005)
    assert cells[3][8].startswith("+")
    assert float(cells[3][10]) == 1
    assert lines[-1] == "144 queries of 12 identities; intervals by resampling identities."


def test_csv_has_a_row_for_each_model_and_scope() -> None:
    models = {"a": model(1.0), "b": model(0.5), "c": model(0.8, seed=1)}
    rows = compare_models(models, reference="b")
    table = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [(line["scope"], line["model"]) for line in table] == [
        (scope, name) for scope in ("mean", "dorsal", "palmar") for name in models
    ]
    for line in table:
        scores = models[line["model"]]
        figures = scores.overall if line["scope"] == "mean" else scores.per_aspect[line["scope"]]
        for metric in METRICS:
            assert float(line[metric]) == pytest.approx(getattr(figures, metric).mean, abs=1e-12)
            assert float(line[f"{metric}_low"]) <= float(line[metric]) <= float(line[f"{metric}_high"])
            assert (line[f"{metric}_gap"] == "") == (line["model"] == "b")
        assert int(line["num_queries"]) == (144 if line["scope"] == "mean" else 72)
    assert "| a |" in markdown(rows, scope="palmar", metric="cmc1")


def test_one_aspect_is_one_scope() -> None:
    assert [row.scope for row in compare_models({"a": model(1.0, aspects=("unknown",))})] == ["mean"]


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(InputError, match="no models"):
        compare_models({})
    with pytest.raises(InputError, match="reference 'x' is not among the models: a"):
        compare_models({"a": model(1.0)}, reference="x")
    with pytest.raises(InputError, match="'b' cannot be compared with 'a': the two models"):
        compare_models({"a": model(1.0), "b": model(1.0, aspects=("unknown",))})
    with pytest.raises(InputError, match="no rows of 'thumb'"):
        markdown(compare_models({"a": model(1.0)}), scope="thumb")
