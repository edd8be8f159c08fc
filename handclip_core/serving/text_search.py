"""Images of a folder found by a text or by another image, as a trained run compares them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from handclip_core.console import track
from handclip_core.data.images import BadImageError, decode_rgb, read_image
from handclip_core.data.layouts import entries_of
from handclip_core.errors import InputError
from handclip_core.paths import shown_path, user_path
from handclip_core.runs.experiment import context_of
from handclip_core.runs.run_folder import load_run, read_experiment
from handclip_core.serving.images import read_square
from handclip_core.serving.model import Embeddings, ServedEnsemble, ServedModel, open_run
from handclip_core.serving.tiles import TILE_PX, as_jpeg, tile

BATCH = 64
COLUMNS = 5
"""Tiles in a row of the sheet."""


@dataclass(frozen=True)
class Hit:
    """An image that was found, by its path under the folder, and its score with the query.

    That is a cosine, unless the model compares images in a way of its own.
    """

    path: str
    score: float


@dataclass(frozen=True)
class Found:
    """The best ``hits``, best first, among ``num_images`` images; and those that could not be read, with the reason."""

    hits: tuple[Hit, ...]
    num_images: int
    unreadable: tuple[str, ...]


class Searcher:
    """A run's or an ensemble's model before any images; of a run that learned texts with its own text tower."""

    def __init__(self, run: Path, *, device: torch.device) -> None:
        """Raises InputError if ``run`` is no finished run."""
        self.run, self.device = run, device
        self._served: ServedModel = open_run(run, device=device)

    def text(self, text: str) -> Embeddings:
        """The unit vector [1, D] of a text.

        Raises InputError for an empty one, and for a run without texts or without its data.
        """
        if not text.strip():
            raise InputError("the text is empty; say what the images show")
        if isinstance(self._served, ServedEnsemble):
            raise InputError(
                f"{self.run}: is an ensemble, whose images are compared with images alone: name one by --like, or a "
                "run of the task captions or classes"
            )
        context = context_of(read_experiment(self.run), self.device)
        model = load_run(self.run, device=self.device)  # the served one is without its text tower
        if not (context.training_data().meets_texts and model.neck.begins_as_projected):
            raise InputError(
                f"{self.run}: its embeddings are not compared with texts; name a run of the task captions or classes"
            )
        read = model.read_texts([text])
        pretrained = context.evaluator("val").towers.read
        return F.normalize((pretrained([text]).embedding if read is None else read).float().cpu(), dim=1).numpy()

    def image(self, path: Path) -> Embeddings:
        """The unit vector [1, W] of an image; raises InputError if it cannot be read."""
        try:
            return self._served.embed([user_path(path)])
        except BadImageError as error:
            raise InputError(f"{shown_path(path)}: {error}") from None

    def find(self, query: Embeddings, folder: Path, *, num: int) -> Found:
        """The ``num`` images in and below ``folder`` with the highest score with ``query`` [1, W].

        Of equals the one whose path comes first. Raises InputError if there is no readable image.
        """
        paths = entries_of(folder).images
        if not paths:
            raise InputError(f"{shown_path(folder)}: no image in this folder or below it")
        vectors: list[Embeddings] = []
        named: list[str] = []
        unreadable: list[str] = []
        for start in track(range(0, len(paths), BATCH), description="embedding images", total=len(paths)):
            squares = []
            for path in paths[start : start + BATCH]:
                try:
                    squares.append([read_square(folder / path, one.frame, one.size_px) for one in self._served.forms])
                    named.append(path)
                except BadImageError as error:
                    unreadable.append(f"{path}: {error}")
            if squares:
                by_form = [np.stack(form) for form in zip(*squares, strict=True)]
                vectors.append(self._served.embed_squares(by_form))
        if not named:
            raise InputError(f"{shown_path(folder)}: none of its {len(paths)} images can be read ({unreadable[0]})")
        values = self._served.rank_scores(query, np.concatenate(vectors))[0]
        best = np.argsort(-values, kind="stable")[:num]
        return Found(tuple(Hit(named[i], float(values[i])) for i in best), len(named), tuple(unreadable))


def contact_sheet(found: Found, folder: Path, out: Path) -> None:
    """Write the hits to a JPEG, row by row from the best, each with its name, rank and score."""
    tiles = []
    for rank, hit in enumerate(found.hits, start=1):
        image = decode_rgb(read_image(folder / hit.path), draft_px=TILE_PX)
        image.thumbnail((TILE_PX, TILE_PX))
        tiles.append(tile(image, [Path(hit.path).name, f"{rank}. {hit.score:.4f}"]))
    out.write_bytes(as_jpeg([tiles[at : at + COLUMNS] for at in range(0, len(tiles), COLUMNS)]))
