"""What TensorBoard's own pages give of the best trial."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend import application  # type: ignore[import-untyped]
from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]
from tensorboard.plugins.image.images_plugin import ImagesPlugin  # type: ignore[import-untyped]
from tensorboard.plugins.pr_curve.pr_curves_plugin import PrCurvesPlugin  # type: ignore[import-untyped]
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin  # type: ignore[import-untyped]
from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin  # type: ignore[import-untyped]
from werkzeug.test import Client

from handclip_core.serving.tiles import GAP_PX, TEXT_PX, TILE_PX
from handclip_core.tasks.classes.scores import ClassScores
from handclip_core.tasks.classes.task import Classes
from tests.conftest import TINY_DATA
from tests.tune_jobs.reporting.test_tensorboard import logged, provider
from tests.tune_jobs.winners import SETTINGS, write_winner
from tune_jobs.config.settings import SweepSettings
from tune_jobs.lifecycle.best_logs import GREEN, NUM_QUERIES, RED, SPRITE_PX, TILES_A_ROW, write_best_logs
from tune_jobs.reporting.tensorboard import FOLDER

PLUGINS = (ImagesPlugin, PrCurvesPlugin, ProjectorPlugin, ScalarsPlugin)


class Board:
    """TensorBoard with its pages of numbers, images, curves and embeddings."""

    def __init__(self, logs: Path) -> None:
        context = base_plugin.TBContext(data_provider=provider(logs), logdir=str(logs))
        self._client = Client(application.TensorBoardWSGI([plugin(context) for plugin in PLUGINS]))

    def get(self, path: str, **query: Any) -> Any:
        answer = self._client.get(f"/data/plugin/{path}", query_string=query)
        assert answer.status_code == 200, answer.text
        return answer

    def image(self, tag: str) -> Image.Image:
        (found,) = self.get("images/images", run="best", tag=tag, sample=0).json
        answer = self._client.get(f"/data/plugin/images/individualImage?{found['query']}")
        assert answer.headers["Content-Type"] == "image/jpeg"
        return Image.open(io.BytesIO(answer.data)).convert("RGB")


def test_tensorboard_shows_the_best_of_a_sweep_beside_the_numbers(tmp_path: Path) -> None:
    winner = write_winner(tmp_path / "best")
    sweep, logs = logged(tmp_path / FOLDER)
    sweep.complete(sweep.all_trials.trials[0], 0.5)
    logs.close()
    for _ in range(2):  # the second time in place of the first
        images = write_best_logs(tmp_path, SETTINGS)
    assert sorted(images) == [f"queries {place}.jpg" for place in range(NUM_QUERIES)]
    board, search = Board(tmp_path / FOLDER), winner.search
    assert search is not None
    assert set(board.get("scalars/tags").json) == {"0000-full", "sweep"}

    assert sorted(board.get("images/tags").json["best"]) == [f"queries/{place}" for place in range(NUM_QUERIES)]
    step = len(search.query) / NUM_QUERIES
    for place in (0, NUM_QUERIES - 1):
        sheet, panel = np.asarray(board.image(f"queries/{place}"), float), search.questions.panel(int(step * place))
        for tile, answer in enumerate(panel.answers, start=1):
            row, column = divmod(tile, TILES_A_ROW)
            across = GAP_PX + column * (TILE_PX + GAP_PX) + TILE_PX // 2
            frame = sheet[GAP_PX + row * (TILE_PX + TEXT_PX + GAP_PX) + 2, across]
            if answer.right is not None:
                np.testing.assert_allclose(frame, GREEN if answer.right else RED, atol=40)

    (curve,) = board.get("pr_curves/pr_curves", run="best", tag="precision and recall/same identity").json["best"]
    cosine, genuine = search.similarity[search.same_aspect], search.genuine[search.same_aspect]
    at = 80
    kept = cosine >= 2 * curve["thresholds"][at] - 1
    assert curve["recall"][at] == pytest.approx(genuine[kept].sum() / genuine.sum(), abs=0.02)
    assert curve["precision"][at] == pytest.approx(genuine[kept].mean(), abs=0.02)

    (about,) = board.get("projector/info", run="best").json["embeddings"]
    query = {"run": "best", "name": about["tensorName"]}
    vectors = np.frombuffer(board.get("projector/tensor", **query).data, np.float32).reshape(about["tensorShape"])
    np.testing.assert_allclose(vectors, np.vstack([search.query, search.gallery]), atol=1e-4)
    heads, *rows = board.get("projector/metadata", **query).text.rstrip("\n").split("\n")
    assert heads.split("\t") == ["label", "identity", "aspect", "path"]
    assert [row.split("\t")[0] for row in rows] == [*search.identities[0], *search.identities[1]]
    sprite = Image.open(io.BytesIO(board.get("projector/sprite_image", **query).data))
    assert sprite.width == SPRITE_PX * int(np.ceil(len(rows) ** 0.5))


def test_classes_have_a_curve_each_and_the_words_of_what_an_image_is_taken_for(tmp_path: Path) -> None:
    names, truth = ("palm", "back", "never seen"), np.arange(20) % 2
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], size=20)
    scores = ClassScores(names, np.arange(20), truth, np.arange(20), probabilities)
    Classes().save(tmp_path / "best" / "scores.npz", scores)
    write_winner(tmp_path / "data")  # draws them
    settings = SweepSettings.model_validate({"task": {"name": "classes"}, "data": TINY_DATA})
    images = write_best_logs(tmp_path, settings)
    assert images["confusion.png"] == scores.files["confusion.png"]
    board = Board(tmp_path / FOLDER)
    assert set(board.get("pr_curves/tags").json["best"]) == {
        "precision and recall/palm",
        "precision and recall/back",
    }
    assert board.image("images/0").width == GAP_PX + (1 + len(names)) * (TILE_PX + GAP_PX)
    assert "confusion" in board.get("images/tags").json["best"]


def test_without_a_winner_or_without_the_data_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_best_logs(tmp_path, SETTINGS) == {}
    write_winner(tmp_path / "best")
    monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path / "cache"))
    assert write_best_logs(tmp_path, SETTINGS) == {}
    assert not (tmp_path / FOLDER).exists()
