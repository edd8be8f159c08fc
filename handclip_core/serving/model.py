"""A finished run as a model ready to embed: from its folder alone, without the data and without their paths."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.framing import Form, Frame
from handclip_core.errors import InputError
from handclip_core.evaluation.similarity import cosine
from handclip_core.models.ensemble import EnsembleModel
from handclip_core.models.hand_model import HandModel
from handclip_core.models.lora import merged, restored
from handclip_core.models.weights.files import read_tensors
from handclip_core.paths import input_folder
from handclip_core.runs.ensemble_file import EnsembleFile, is_ensemble, member_folders, read_ensemble
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.model_file import FOR_TRAINING, MODEL_FILE, untrained, weights_hash
from handclip_core.runs.run_folder import BEST, load_tensors, read_experiment
from handclip_core.runs.validation import ValidationFile, read_validation
from handclip_core.serving.images import Image, read_square
from handclip_core.types import ASPECT_INDEX, Aspect, PerTower

A_RUN = "name the folder of a finished run, such as runs/NAME/best"
EXPORTED, HASH = "handclip_model.safetensors", "run_hash"
"""Weights that were exported, which go before those of training, and the key of their run's hash in the metadata."""
BATCH = 64

Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class ServedModel:
    """A trained model that embeds images; ``hash`` stands for its weights and for how images become its inputs."""

    model: HandModel
    experiment: Experiment
    validation: ValidationFile
    folder: Path
    hash: str
    device: torch.device

    @property
    def name(self) -> str:
        """The folder's name, with the one above it if it is a sweep's ``best`` or the like."""
        return "/".join(self.folder.parts[-2:])

    @property
    def width(self) -> int:
        """The width W of an embedding."""
        return self.model.width

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms in which images are read: one, but of an ensemble one for each size and framing of its towers."""
        return self.model.forms

    @property
    def size_px(self) -> int:
        """Width and height of the images that the tower reads."""
        return self.model.architecture.image_px

    @property
    def frame(self) -> Frame:
        """How an image becomes square."""
        return self.model.architecture.frame

    def embed(self, images: Sequence[Image], *, aspect: Aspect = Aspect.UNKNOWN) -> Embeddings:
        """Unit vectors [n, W] of images: paths, encoded bytes, or uint8 arrays [H, W, 3] of RGB, upright.

        ``aspect`` is what all of them show; models that do not tell aspects apart do not ask for it. Raises
        BadImageError for the first image that cannot be used.
        """
        if not images:
            return self._nothing()
        each = [np.stack([read_square(image, form.frame, form.size_px) for image in images]) for form in self.forms]
        return self.embed_squares(each, aspect=aspect)

    @torch.no_grad()
    def embed_squares(
        self, squares: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], *, aspect: Aspect = Aspect.UNKNOWN
    ) -> Embeddings:
        """Unit vectors [n, W] of images uint8 [n, S, S, 3] that are of the tower's size already.

        One array for each of ``forms``; a single array, if there is one form.
        """
        each, parts = [squares] if isinstance(squares, np.ndarray) else list(squares), [self._nothing()]
        for start in range(0, len(each[0]), BATCH):
            images = tuple(self._pixels(array[start : start + BATCH]) for array in each)
            shown = torch.full((len(images[0]),), ASPECT_INDEX[aspect], device=self.device)
            inputs = images[0] if len(images) == 1 else PerTower(images)
            parts.append(F.normalize(self.model.embed(inputs, shown).float(), dim=1).cpu().numpy())
        return np.concatenate(parts)

    def _pixels(self, squares: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(squares).to(self.device).permute(0, 3, 1, 2).float().div_(255)

    def scores(self, queries: Embeddings, gallery: Embeddings) -> NDArray[np.float32]:
        """The score of each pair [Q, G]: what thresholds are set on."""
        compare = self.model.pairwise_similarity or cosine
        return compare(torch.from_numpy(queries), torch.from_numpy(gallery)).float().cpu().numpy()

    def rank_scores(self, queries: Embeddings, gallery: Embeddings) -> NDArray[np.float32]:
        """What ranks a gallery [Q, G]: the scores of pairs, unless the model has votes on the order of the gallery."""
        rank = self.model.similarity or cosine
        return rank(torch.from_numpy(queries), torch.from_numpy(gallery)).float().cpu().numpy()

    @property
    def ranks_by_cosine(self) -> bool:
        """Whether products of embeddings rank a gallery."""
        return self.model.similarity is None

    def _nothing(self) -> Embeddings:
        return np.empty((0, self.width), np.float32)


@dataclass(frozen=True)
class ServedEnsemble(ServedModel):
    """Several trained models that answer together; ``experiment`` is that of the first."""

    members: tuple[ServedModel, ...]
    about: EnsembleFile


def open_run(given: Path | str, *, device: torch.device | str = "cpu") -> ServedModel:
    """The model in the folder of a finished run or an ensemble, a sweep's ``best``, or the final model of finals.

    Neither the training data nor the pretrained weights are needed. Raises InputError for a folder that holds no
    finished run, and for weights that are damaged or of another run.
    """
    folder = input_folder(given, mend=A_RUN).absolute()
    return _open_ensemble(folder, device) if is_ensemble(folder) else _open_single(folder, given, device)


def _open_ensemble(folder: Path, device: torch.device | str) -> ServedEnsemble:
    about = read_ensemble(folder)
    members = tuple(_open_single(path, path, device) for path in member_folders(folder))
    for member, said in zip(members, about.members, strict=True):
        if member.hash != said.hash:
            raise InputError(f"{member.folder}: not the weights that the ensemble was made of; make it again")
    first, fusion = members[0], about.scores
    model = EnsembleModel([member.model for member in members], about.by, fusion).eval()
    how = f"{about.by} {fusion.weights} {fusion.means} {fusion.deviations} {[member.hash for member in members]}"
    known = hashlib.sha256(how.encode()).hexdigest()
    return ServedEnsemble(
        model, first.experiment, read_validation(folder), folder, known, first.device, members=members, about=about
    )


def _open_single(folder: Path, given: Path | str, device: torch.device | str) -> ServedModel:
    if not (folder / MODEL_FILE).is_file():
        raise InputError(
            f"{given}: has no {MODEL_FILE}: the run has not finished, or an earlier version wrote it; {A_RUN}"
        )
    experiment = read_experiment(folder)
    exported = folder / EXPORTED
    path = exported if exported.is_file() else folder / BEST
    state = read_tensors(path) if path == exported else load_tensors(path)
    with torch.random.fork_rng(devices=[]):
        model = merged(_with_weights(untrained(experiment, folder), state, path)).to(device).eval()
    known = _hash_in(exported) if path == exported else weights_hash(model, state)
    return ServedModel(model, experiment, read_validation(folder), folder, known, torch.device(device))


def weights_for_use(model: HandModel) -> dict[str, Tensor]:
    """The weights of ``model`` that embeddings depend on."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith(FOR_TRAINING)}


def _hash_in(path: Path) -> str:
    """The hash of the run that exported weights came from: merging changes them."""
    with safe_open(path, "pt") as file:
        found = (file.metadata() or {}).get(HASH)
    if found is None:
        raise InputError(f"{path}: does not say which run it was exported from; export it again")
    return str(found)


def _with_weights(model: HandModel, state: Mapping[str, Tensor], path: Path) -> HandModel:
    """``model`` with those of the weights that embeddings depend on; raises InputError if they are of another one."""
    own = {name: value for name, value in model.state_dict().items() if name.startswith(FOR_TRAINING)}
    kept = {name: value for name, value in state.items() if not name.startswith(FOR_TRAINING)}
    try:
        return restored(model, {**kept, **own})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not the weights of the {MODEL_FILE} beside it ({reason})") from None
