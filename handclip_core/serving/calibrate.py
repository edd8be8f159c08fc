"""Thresholds from images of one's own: for models without any, and for other cameras than the training data's."""

from pathlib import Path

import numpy as np
import torch

from handclip_core.evaluation.similarity import cosine
from handclip_core.evaluation.thresholds import Thresholds, fit_thresholds
from handclip_core.paths import output_folder
from handclip_core.runs.run_folder import write_text
from handclip_core.runs.validation import VALIDATION_FILE
from handclip_core.serving.gallery import people_below
from handclip_core.serving.images import read_squares, warn
from handclip_core.serving.model import ServedModel
from handclip_core.types import Aspect


def calibrate(model: ServedModel, root: Path, *, aspect: Aspect = Aspect.UNKNOWN) -> Thresholds:
    """Set the thresholds of a run by all pairs of the images in ``root``, <identity>/<image>, and save them with it.

    The people must not be among those that were trained on. What was found before is kept but for the thresholds.
    Raises InputError if the run's folder cannot be written, or ``root`` holds no people.
    """
    output_folder(model.folder, option="RUN")
    found = people_below(root)
    who = {str(path): identity for path, identity in found}
    squares = read_squares([path for path, _ in found], model.forms)
    warn(squares.unreadable)
    embeddings = torch.from_numpy(model.embed_squares(squares.arrays(), aspect=aspect))
    identities = [who[name] for name in squares.names]
    similarity = model.model.pairwise_similarity or cosine
    thresholds = fit_thresholds(embeddings, identities, np.zeros(len(identities), np.int64), similarity=similarity)
    saved = model.validation.model_copy(update={"thresholds": thresholds})
    write_text(model.folder / VALIDATION_FILE, saved.model_dump_json(indent=2))
    return thresholds
