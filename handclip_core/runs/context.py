"""The context of an experiment: data, decoded images and backbone, opened once a process and kept warm."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, get_args

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
from handclip_core.data.leaks import check_leaks
from handclip_core.data.manifest import GallerySplit, Prepared
from handclip_core.data.pixels import SQUASHED, PixelCache, pixel_cache
from handclip_core.data.sources import DrawnData, PreparedData, open_data
from handclip_core.data.training import Part, ReadTexts, TrainingData
from handclip_core.errors import InputError
from handclip_core.evaluation.protocol import GalleryKind, QueryScores, score_gallery_splits
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone
from handclip_core.models.readout import Readout
from handclip_core.paths import cache_root
from handclip_core.types import ASPECT_INDEX, Aspect

Split = Literal["val", "test"]
TEXTS_A_PASS = 64


@dataclass(frozen=True)
class ExperimentContext:
    """What every experiment on the same data and backbone shares. Nothing in it is ever changed."""

    prepared: Prepared
    pretrained: Backbone
    settings: BackboneSettings
    aspects: tuple[Aspect, ...]
    gallery: GalleryKind
    cache: Path
    device: torch.device

    def backbone(self, *, text: bool = False) -> Backbone:
        """A copy of the pretrained backbone, on the device; with its text tower if ``text``."""
        return (self._with_text if text else self.pretrained).copy()

    def training_data(self, part: Part = "train") -> TrainingData:
        """The training images of the experiment's aspects."""
        return self._training_data[part]

    def gallery_splits(self, split: Split) -> tuple[GallerySplit, ...]:
        """The split's gallery splits; queries of the experiment's aspects alone, galleries whole."""
        wanted = set(self.aspects)
        gallery_splits = self.prepared.protocol.draws[split]
        return tuple(
            GallerySplit(
                gallery=gallery_split.gallery,
                query={name: rows for name, rows in gallery_split.query.items() if name in wanted},
            )
            for gallery_split in gallery_splits
        )

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Every manifest row that the split's gallery splits use, ascending."""
        return rows_of(self.gallery_splits(split))

    @cached_property
    def aspect_indices(self) -> NDArray[np.int64]:
        """The aspect of every manifest row, by ASPECT_INDEX."""
        return np.array([ASPECT_INDEX[aspect] for aspect in self.prepared.manifest["aspect"]], np.int64)

    @cached_property
    def identities(self) -> NDArray[np.str_]:
        """The identity of every manifest row."""
        return self.prepared.manifest["identity"].to_numpy(dtype=str)

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

    @cached_property
    def zero_shot_queries(self) -> QueryScores:
        """What the pretrained backbone scores on each query of the validation split, by its projected embedding."""
        rows, gallery_splits = self.rows("val"), self.gallery_splits("val")
        return score_gallery_splits(
            self._zero_shot(rows), rows, gallery_splits, self.identities, gallery=self.gallery
        ).queries

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
        return cached_features(
            lambda pixels: self.pretrained(pixels, readout),
            self.pixel_inputs,
            self._cached_rows,
            key=f"{self._key} {readout.key}" if readout else self._key,
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
        return ReadTexts(torch.cat(embedded), backbone.temperature)

    @cached_property
    def _training_data(self) -> dict[Part, TrainingData]:
        parts: tuple[Part, ...] = get_args(Part)
        return {
            part: TrainingData(self.prepared, self.aspects, part, zero_shot=self._zero_shot, read=self._read)
            for part in parts
        }

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


def rows_of(gallery_splits: tuple[GallerySplit, ...]) -> NDArray[np.int64]:
    """Every manifest row that ``draws`` use, ascending."""
    parts = [
        rows
        for gallery_split in gallery_splits
        for side in (gallery_split.gallery, gallery_split.query)
        for rows in side.values()
    ]
    return np.unique(np.concatenate([np.asarray(rows, np.int64) for rows in parts]))


@lru_cache(maxsize=2)
def open_context(data: DrawnData | PreparedData, backbone: BackboneSettings, device: torch.device) -> ExperimentContext:
    """Open data and backbone, and print what the user should know of its weights; drawn data are drawn if need be.

    Raises InputError if data or weights cannot be used, or training identities leak into another split.
    """
    cache = cache_root()
    pretrained = load_backbone(backbone).to(device)
    for note in pretrained.notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    prepared = open_data(data, cache=cache)
    check_leaks(prepared)
    return ExperimentContext(
        prepared=prepared,
        pretrained=pretrained,
        settings=backbone,
        aspects=used_aspects(prepared, data.aspects),
        gallery=data.gallery,
        cache=cache,
        device=device,
    )


def used_aspects(prepared: Prepared, wanted: tuple[Aspect, ...]) -> tuple[Aspect, ...]:
    """The wanted aspects, or all that the data hold; raises InputError if one is asked for that is not there."""
    held = set(prepared.manifest["aspect"])
    missing = [aspect for aspect in wanted if aspect not in held]
    if missing:
        raise InputError(f"data.aspects: no image shows '{missing[0]}'; the data hold {', '.join(sorted(held))}")
    return wanted or tuple(aspect for aspect in Aspect if aspect in held)
