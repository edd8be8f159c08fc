"""The context of an experiment: data, decoded images and backbone, opened once a process and kept warm."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from handclip_core.data.inputs import (
    ActivationInputs,
    FeatureInputs,
    Inputs,
    PixelInputs,
    cached_activations,
    cached_features,
)
from handclip_core.data.manifest import Prepared
from handclip_core.data.pixels import SQUASHED, PixelCache, pixel_cache
from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.data.training import Part, ReadTexts, TrainingData
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone
from handclip_core.models.readout import Readout
from handclip_core.paths import cache_root
from handclip_core.tasks import IDENTITIES, AnyTask
from handclip_core.tasks.base import Dataset, Evaluator, Split, Towers

TEXTS_A_PASS = 64


@dataclass(frozen=True)
class ExperimentContext:
    """What every experiment on the same data and backbone shares. Nothing in it is ever changed."""

    task: AnyTask
    dataset: Dataset
    pretrained: Backbone
    settings: BackboneSettings
    cache: Path
    device: torch.device

    @property
    def prepared(self) -> Prepared:
        """The manifest that rows speak of."""
        return self.dataset.prepared

    def backbone(self, *, text: bool = False) -> Backbone:
        """A copy of the pretrained backbone, on the device; with its text tower if ``text``."""
        return (self._with_text if text else self.pretrained).copy()

    def training_data(self, part: Part = "train") -> TrainingData:
        """The training images of the experiment."""
        return self._training_data[part]

    def evaluator(self, split: Split) -> Evaluator:
        """What judges models on ``split``."""
        return self._evaluators[split]

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Every manifest row that the evaluation of ``split`` uses, ascending."""
        return self.evaluator(split).rows

    @property
    def aspect_indices(self) -> NDArray[np.int64]:
        """The aspect of every manifest row, by ASPECT_INDEX."""
        return self.dataset.aspect_indices

    @property
    def identities(self) -> NDArray[np.str_]:
        """The identity of every manifest row."""
        return self.dataset.identities

    @cached_property
    def pixels(self) -> PixelCache:
        """The decoded images at the backbone's size, built when first asked for."""
        backbone = self.pretrained
        return pixel_cache(self.prepared, size_px=backbone.image_px, cache_root=self.cache, frame=backbone.frame)

    @cached_property
    def pixel_inputs(self) -> PixelInputs:
        """Images as model inputs."""
        return PixelInputs(self.pixels)

    @cached_property
    def feature_inputs(self) -> FeatureInputs:
        """Training and validation images as the pretrained, frozen backbone sees them."""
        return self._features(None)

    def inputs_after(self, num_blocks: int, readout: Readout | None = None) -> Inputs:
        """Training and validation images as the first ``num_blocks`` blocks of the pretrained backbone leave them.

        All blocks give encoded images, with what ``readout`` reads; some give activations, of no block after the first
        that is read; a stem alone is not worth a file, so images.
        """
        if num_blocks == len(self.pretrained.blocks()):
            return self._features(readout) if readout else self.feature_inputs
        depth = min(num_blocks, *readout.blocks) if readout else num_blocks
        return self._activations(depth) if depth > 1 else self.pixel_inputs

    def _features(self, readout: Readout | None) -> FeatureInputs:
        key = f"{self._key} {readout.key}" if readout else self._key
        if key not in self._by_readout:
            self._by_readout[key] = self._encoded(readout, key)
        return self._by_readout[key]

    def _encoded(self, readout: Readout | None, key: str) -> FeatureInputs:
        return cached_features(
            lambda pixels: self.pretrained(pixels, readout),
            self.pixel_inputs,
            self._cached_rows,
            key=key,
            cache=self.cache,
            device=self.device,
        )

    def _activations(self, depth: int) -> ActivationInputs:
        found = self._by_depth.get(depth)
        if found is None:
            found = self._by_depth[depth] = cached_activations(
                lambda pixels: self.pretrained.head_blocks(pixels, depth),
                self.pixel_inputs,
                self._cached_rows,
                depth=depth,
                key=self._key,
                cache=self.cache,
                device=self.device,
            )
        return found

    def _zero_shot(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.feature_inputs.of(rows, device=torch.device("cpu")).projected.numpy()

    @torch.no_grad()
    def _read(self, texts: Sequence[str]) -> ReadTexts:
        backbone = self._with_text
        parts = (texts[start : start + TEXTS_A_PASS] for start in range(0, len(texts), TEXTS_A_PASS))
        embedded = [backbone.encode_text(backbone.tokenize(part).to(self.device)) for part in parts]
        return ReadTexts(torch.cat(embedded), backbone.temperature, backbone.num_cut(texts))

    @cached_property
    def _towers(self) -> Towers:
        return Towers(self._zero_shot, self._read, self.device)

    @cached_property
    def _training_data(self) -> dict[Part, TrainingData]:
        parts: tuple[Part, ...] = get_args(Part)
        return {part: self.dataset.training_data(part, self._towers) for part in parts}

    @cached_property
    def _evaluators(self) -> dict[Split, Evaluator]:
        splits: tuple[Split, ...] = get_args(Split)
        return {split: self.dataset.evaluator(split, self._towers) for split in splits}

    @cached_property
    def _by_readout(self) -> dict[str, FeatureInputs]:
        return {}

    @cached_property
    def _by_depth(self) -> dict[int, ActivationInputs]:
        return {}

    @cached_property
    def _cached_rows(self) -> NDArray[np.int64]:
        trained = np.union1d(self.training_data().rows, self.training_data("train_all").rows)
        return np.union1d(trained, self.rows("val"))

    @cached_property
    def _key(self) -> str:
        seen = f"{self.prepared.protocol.manifest_hash} {self.pretrained.image_px}"
        frame = self.pretrained.frame
        return f"{self.pretrained.key()} {seen}{'' if frame == SQUASHED else f' {frame}'}"

    @cached_property
    def _with_text(self) -> Backbone:
        return load_backbone(self.settings, text=True).to(self.device)


@lru_cache(maxsize=2)
def open_context(
    data: DrawnData | PreparedData, backbone: BackboneSettings, device: torch.device, task: AnyTask = IDENTITIES
) -> ExperimentContext:
    """Open data and backbone, and print what the user should know of its weights; drawn data are drawn if need be.

    Raises InputError if data or weights cannot be used, or training identities leak into another split.
    """
    cache = cache_root()
    pretrained = load_backbone(backbone).to(device)
    for note in pretrained.notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    dataset = task.open(data, cache=cache)
    return ExperimentContext(
        task=task, dataset=dataset, pretrained=pretrained, settings=backbone, cache=cache, device=device
    )
