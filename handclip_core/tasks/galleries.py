"""Data whose identities are searched for in galleries: gallery splits of the aspects that an experiment uses."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from handclip_core.data.manifest import GallerySplit, Prepared
from handclip_core.errors import InputError
from handclip_core.evaluation.protocol import Enrolled, GalleryKind, with_roles
from handclip_core.evaluation.similarity import Distance
from handclip_core.tasks.base import Dataset, Split
from handclip_core.types import HAND_ASPECTS, Aspect


class GalleryData(Dataset):
    """A prepared data set with the ``aspects`` that are trained and scored.

    Scored by the kind of ``gallery``, which images are ``enrolled`` in it, and the ``distance`` that orders it.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        aspects: tuple[Aspect, ...],
        gallery: GalleryKind,
        enrolled: Enrolled = Enrolled.ONE,
        distance: Distance = Distance.COSINE,
    ) -> None:
        super().__init__(prepared)
        self.aspects, self.gallery, self.enrolled, self.distance = aspects, gallery, enrolled, distance

    @property
    def galleries(self) -> "GalleryData":
        """These data."""
        return self

    @property
    def asked(self) -> Mapping[str, object]:
        """Whose queries, and in which galleries they are searched."""
        return {
            "aspects": self.aspects,
            "gallery": self.gallery,
            "enrolled": self.enrolled,
            "distance": self.distance,
        }

    @property
    def trains_aspects(self) -> bool:
        """Whether one of the aspects is known of a training image."""
        manifest = self.prepared.manifest
        trained = manifest.loc[manifest["subset"].isin(["train", "val"]), "aspect"]
        return bool(set(self.aspects) & set(trained) & set(HAND_ASPECTS))

    def gallery_splits(self, split: Split, *, enrolled: Enrolled | None = None) -> tuple[GallerySplit, ...]:
        """The split's gallery splits; queries of the experiment's aspects alone, galleries whole.

        ``enrolled`` takes the place of the data's own setting.
        """
        wanted, roles = set(self.aspects), enrolled or self.enrolled
        gallery_splits = [with_roles(one, self._who, roles) for one in self.prepared.protocol.draws[split]]
        return tuple(
            GallerySplit(
                gallery=gallery_split.gallery,
                query={name: rows for name, rows in gallery_split.query.items() if name in wanted},
            )
            for gallery_split in gallery_splits
        )

    @cached_property
    def _who(self) -> list[str]:
        return [str(identity) for identity in self.identities]

    def rows(self, split: Split, *, enrolled: Enrolled | None = None) -> NDArray[np.int64]:
        """Every manifest row that the split's gallery splits use, ascending; ``enrolled`` as in ``gallery_splits``."""
        return rows_of(self.gallery_splits(split, enrolled=enrolled))


def rows_of(gallery_splits: tuple[GallerySplit, ...]) -> NDArray[np.int64]:
    """Every manifest row that ``draws`` use, ascending."""
    parts = [
        rows
        for gallery_split in gallery_splits
        for side in (gallery_split.gallery, gallery_split.query)
        for rows in side.values()
    ]
    return np.unique(np.concatenate([np.asarray(rows, np.int64) for rows in parts]))


def used_aspects(prepared: Prepared, wanted: tuple[Aspect, ...]) -> tuple[Aspect, ...]:
    """The wanted aspects, or all that the data hold; raises InputError if one is asked for that is not there."""
    held = set(prepared.manifest["aspect"])
    missing = [aspect for aspect in wanted if aspect not in held]
    if missing:
        raise InputError(f"data.aspects: no image shows '{missing[0]}'; the data hold {', '.join(sorted(held))}")
    return wanted or tuple(aspect for aspect in Aspect if aspect in held)


def galleries_of(dataset: Dataset, *, what: str) -> GalleryData:
    """``dataset`` with its galleries; raises InputError that names ``what`` if it has none."""
    if dataset.galleries is None:
        raise InputError(f"{what} is for tasks whose identities are searched for in galleries, as 'identities' is")
    return dataset.galleries
