"""What is shown of the best trial: queries with what is found, and in TensorBoard embeddings, precision and recall."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from PIL.Image import new as new_image
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

from handclip_core.data.manifest import Prepared
from handclip_core.evaluation.questions import Item, Questions
from handclip_core.serving.tiles import TILE_PX, Colour, as_jpeg, tile, words
from tune_jobs.config.settings import SweepSettings
from tune_jobs.lifecycle.folders import BEST
from tune_jobs.reporting.panels import MARKS, small_image
from tune_jobs.reporting.tensorboard import FOLDER, write_summary
from tune_jobs.reporting.winner_sections import Winner

RUN = "best"
"""The run of the best trial among the logs."""
NUM_QUERIES, NUM_POINTS, NUM_CURVES, SPRITE_PX = 8, 500, 25, 32
"""Queries of each kind, images in the projector with the side of each, and curves, at most."""
TILES_A_ROW = 4
"""Of a sheet: TensorBoard and dashboards show it in a card of some 300 pixels, where one long row could not be read."""
DIGITS = 4
"""Of the numbers in an embedding, which TensorBoard keeps as text."""
GREEN, RED = (0, 158, 115), (213, 94, 0)
FRAMES: dict[bool | None, Colour | None] = {True: GREEN, False: RED, None: None}


def write_best_logs(folder: Path, settings: SweepSettings) -> dict[str, bytes]:
    """Write the run of the best trial of the sweep in ``folder`` anew, from its ``best`` folder and the sweep's data.

    Returns its images by file name. Nothing if the data are not on this machine, or the trial has left no results.
    """
    logs = folder / FOLDER / RUN
    shutil.rmtree(logs, ignore_errors=True)
    winner = Winner(folder / BEST, settings)
    asked, data = winner.questions, winner.data
    if asked is None or data is None:
        return {}
    sheets, files = _sheets(asked, data), {} if winner.evaluation is None else winner.evaluation.files
    drawn = {name: content for name, content in files.items() if isinstance(content, bytes)}
    tagged = sheets | {Path(name).stem: content for name, content in drawn.items()}
    with SummaryWriter(str(logs)) as writer:
        for tag, encoded in tagged.items():
            image = Summary.Image(encoded_image_string=encoded, colorspace=3)
            write_summary(writer, Summary(value=[Summary.Value(tag=tag, image=image)]))
        for name, (truth, score) in list(asked.decisions.items())[:NUM_CURVES]:
            if truth.any():
                writer.add_pr_curve(f"precision and recall/{name}", truth, score)
        _write_embeddings(writer, winner, asked, data)
    return {f"{tag.replace('/', ' ')}.jpg": encoded for tag, encoded in sheets.items()} | drawn


def _sheets(asked: Questions, data: Prepared) -> dict[str, bytes]:
    """Queries with the answers to them as JPEGs, by tag: the same queries whichever trial is the best, evenly spread
    over all of each kind.
    """
    sheets = {}
    for kind, part in asked.parts.items():
        for place, at in enumerate(_spread(part)):
            panel = asked.panel(at)
            question = replace(panel.question, text=f"query {panel.question.text}")
            tiles = [_tile(item, data) for item in (question, *panel.answers)]
            rows = [tiles[start : start + TILES_A_ROW] for start in range(0, len(tiles), TILES_A_ROW)]
            sheets[f"{kind}/{place}"] = as_jpeg(rows)
    return sheets


def _spread(part: range) -> list[int]:
    """Up to NUM_QUERIES places, evenly over all."""
    num = min(NUM_QUERIES, len(part))
    return [part[len(part) * place // num] for place in range(num)]


def _tile(item: Item, data: Prepared) -> Image:
    if item.row is None:
        return words(item.text, [MARKS[item.right]], FRAMES[item.right])
    image = small_image(data, item.row, side_px=TILE_PX)
    return tile(image, [item.text, MARKS[item.right]], FRAMES[item.right])


def _write_embeddings(writer: SummaryWriter, winner: Winner, asked: Questions, data: Prepared) -> None:
    """Up to NUM_POINTS of the images whose embeddings were kept; of classes each is named by its class."""
    kept = winner.figures.get("embedding_rows", {})
    files = {name: rows for name, rows in kept.items() if (winner.folder / name).is_file()}
    if not files:
        return
    vectors = np.concatenate([np.load(winner.folder / name) for name in files])
    rows = np.array([row for rows in files.values() for row in rows], np.int64)
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:NUM_POINTS])
    questions = (asked.panel(at).question for part in asked.parts.values() for at in part)
    names = {one.row: one.text for one in questions if one.row is not None and one.text}
    found = data.manifest.iloc[rows[chosen]]
    about = [
        [" ".join(str(cell).split()) for cell in (names.get(row, who), who, aspect, path)]
        for row, who, aspect, path in zip(
            rows[chosen].tolist(), found["identity"], found["aspect"], found["path"], strict=True
        )
    ]
    images = torch.from_numpy(np.stack([_square(data, row) for row in rows[chosen].tolist()]))
    writer.add_embedding(
        np.round(vectors[chosen].astype(np.float32), DIGITS),
        metadata=about,
        metadata_header=["label", "identity", "aspect", "path"],
        label_img=images.permute(0, 3, 1, 2),
    )


def _square(data: Prepared, row: int) -> NDArray[np.float32]:
    """A small image [S, S, 3] from 0 to 1, on white."""
    square = new_image("RGB", (SPRITE_PX, SPRITE_PX), "white")
    if (image := small_image(data, row, side_px=SPRITE_PX)) is not None:
        square.paste(image, ((SPRITE_PX - image.width) // 2, (SPRITE_PX - image.height) // 2))
    return np.asarray(square, np.float32) / np.float32(255)
