"""How far simple descriptors get on drawn hands: the floor that an embedding has to beat.

Each image is a query in turn against a gallery of one image an identity and aspect; other aspects are strangers.
Run: python benchmarks/drawn_baselines.py [PEOPLE] [IMAGES_PER_ASPECT]
"""

import sys

import numpy as np
from PIL import Image
from skimage.feature import hog

from handclip_core.drawn import DrawnArrays, draw_arrays


def tiny(drawn: DrawnArrays) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(p).resize((32, 32)), np.float32).ravel() for p in drawn.pixels])


def gradients(drawn: DrawnArrays) -> np.ndarray:
    grey = [np.asarray(Image.fromarray(p).convert("L").resize((128, 96)), np.float32) / 255 for p in drawn.pixels]
    return np.stack([hog(g, pixels_per_cell=(16, 16), cells_per_block=(2, 2)) for g in grey])


def colour(drawn: DrawnArrays) -> np.ndarray:
    """Mean colour of the hand alone: what skin tone by itself gives away."""
    flat = drawn.pixels.reshape(len(drawn.pixels), -1, 3).astype(np.float32)
    paper = np.median(flat, axis=1, keepdims=True)
    skin = np.abs(flat - paper).sum(axis=2, keepdims=True) > 90
    mean: np.ndarray = (flat * skin).sum(axis=1) / np.maximum(skin.sum(axis=1), 1)
    return mean


def mean_ap(features: np.ndarray, identity: np.ndarray, gallery: np.ndarray) -> float:
    """mAP with one relevant gallery image a query: the mean of 1 / rank."""
    centred = features - features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    scores = unit[~gallery] @ unit[gallery].T
    hit = scores[identity[~gallery][:, None] == identity[gallery]]
    rank = 1 + (scores > hit[:, None]).sum(axis=1)
    return float((1 / rank).mean())


def main() -> None:
    people, images = (int(a) for a in (sys.argv[1:] + ["24", "5"][len(sys.argv) - 1 :]))
    drawn = draw_arrays(
        population="default",
        seed=0,
        people=people,
        images_per_aspect=images,
        height_px=240,
        workers=None,
        captions=False,
    )
    identity = drawn.person * 4 + drawn.aspect
    gallery = np.arange(len(identity)) % images == 0
    chance = float((1 / np.arange(1, gallery.sum() + 1)).mean())
    print(f"{people} identities, {len(identity)} images, gallery {gallery.sum()}; chance mAP {chance:.3f}")
    for name, describe in (("mean skin colour", colour), ("32x32 pixels", tiny), ("HOG", gradients)):
        print(f"{name:16s} mAP {mean_ap(describe(drawn), identity, gallery):.3f}")


if __name__ == "__main__":
    main()
