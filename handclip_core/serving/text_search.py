"""Images of a folder found by a text or by another image, as a trained run compares them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from handclip_core.console import track
from handclip_core.data.images import BadImageError, decode_rgb, read_image
from handclip_core.data.layouts import entries_of
from handclip_core.data.pixels import shrink
from handclip_core.errors import InputError
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.paths import shown_path, user_path
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import context_of
from handclip_core.runs.run_folder import load_run, read_experiment
from handclip_core.types import ASPECT_INDEX, Aspect

BATCH = 64
TILE_PX, LABEL_PX, COLUMNS = 192, 18, 5


@dataclass(frozen=True)
class Hit:
    """An image that was found, by its path under the folder, and its cosine with the query."""

    path: str
    score: float


@dataclass(frozen=True)
class Found:
    """The best ``hits``, best first, among ``num_images`` images; and those that could not be read, with the reason."""

    hits: tuple[Hit, ...]
    num_images: int
    unreadable: tuple[str, ...]


class Searcher:
    """A run's model before any images, with the text tower that it is compared by."""

    def __init__(self, run: Path, *, device: torch.device) -> None:
        """Raises InputError if ``run`` is no finished run, or its data are gone."""
        self.run, self.device = run, device
        self._context: ExperimentContext = context_of(read_experiment(run), device)
        self._model: HandModel = load_run(run, device=device)

    def text(self, text: str) -> Tensor:
        """The unit vector [1, D] of a text; raises InputError for an empty one, and for a run without texts."""
        if not text.strip():
            raise InputError("the text is empty; say what the images show")
        if not (self._context.training_data().meets_texts and self._model.neck.begins_as_projected):
            raise InputError(f"{self.run}: its embeddings are not compared with texts; name a run of the task captions")
        read = self._model.read_texts([text])
        pretrained = self._context.evaluator("val").towers.read
        return F.normalize((pretrained([text]).embedding if read is None else read).float().cpu(), dim=1)

    def image(self, path: Path) -> Tensor:
        """The unit vector [1, W] of an image; raises InputError if it cannot be read."""
        try:
            return self._embed([_square(user_path(path), self._model.architecture)])
        except BadImageError as error:
            raise InputError(f"{shown_path(path)}: {error}") from None

    def find(self, query: Tensor, folder: Path, *, num: int) -> Found:
        """The ``num`` images in and below ``folder`` with the highest cosine to ``query`` [1, W].

        Of equals the one whose path comes first. Raises InputError if there is no readable image.
        """
        paths = entries_of(folder).images
        if not paths:
            raise InputError(f"{shown_path(folder)}: no image in this folder or below it")
        scores, named, unreadable = [], [], []
        for start in track(range(0, len(paths), BATCH), description="embedding images", total=len(paths)):
            squares = []
            for path in paths[start : start + BATCH]:
                try:
                    squares.append(_square(folder / path, self._model.architecture))
                    named.append(path)
                except BadImageError as error:
                    unreadable.append(f"{path}: {error}")
            if squares:
                scores.append((self._embed(squares) @ query.T)[:, 0])
        if not named:
            raise InputError(f"{shown_path(folder)}: none of its {len(paths)} images can be read ({unreadable[0]})")
        values = torch.cat(scores).numpy()
        best = np.argsort(-values, kind="stable")[:num]
        return Found(tuple(Hit(named[i], float(values[i])) for i in best), len(named), tuple(unreadable))

    @torch.no_grad()
    def _embed(self, squares: Sequence[NDArray[np.uint8]]) -> Tensor:
        pixels = torch.from_numpy(np.stack(squares)).to(self.device).permute(0, 3, 1, 2).float().div_(255)
        unknown = torch.full((len(squares),), ASPECT_INDEX[Aspect.UNKNOWN], device=self.device)
        return F.normalize(self._model.eval().embed(pixels, unknown).float(), dim=1).cpu()


def contact_sheet(found: Found, folder: Path, out: Path) -> None:
    """Write the hits to a JPEG, row by row from the best, each with its rank and cosine."""
    columns = min(COLUMNS, len(found.hits))
    rows = -(-len(found.hits) // columns)
    sheet = Image.new("RGB", (columns * TILE_PX, rows * (TILE_PX + LABEL_PX)), "white")
    for place, hit in enumerate(found.hits):
        x, y = place % columns * TILE_PX, place // columns * (TILE_PX + LABEL_PX)
        tile = decode_rgb(read_image(folder / hit.path), draft_px=TILE_PX)
        tile.thumbnail((TILE_PX, TILE_PX))
        sheet.paste(tile, (x + (TILE_PX - tile.width) // 2, y + (TILE_PX - tile.height) // 2))
        ImageDraw.Draw(sheet).text((x + 4, y + TILE_PX + 2), f"{place + 1}  {hit.score:.3f}", fill="black")
    sheet.save(out, "JPEG", quality=88)


def _square(path: Path, tower: Backbone) -> NDArray[np.uint8]:
    """An image as the square [S, S, 3] that the tower reads, decoded as in training; raises BadImageError."""
    return shrink(read_image(path), size_px=tower.image_px, frame=tower.frame)
