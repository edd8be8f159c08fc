"""How far apart copies and strangers are by the rule that finds near-duplicates, on drawn hands.

Run: python benchmarks/near_duplicates.py [--people 40]
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from handclip_core.data.lookalike import gradient_of, look_of
from handclip_core.data.sources import DrawnData, open_data


def saved(image: Image.Image, quality: int = 85) -> Image.Image:
    """``image`` written as JPEG and read again."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def scaled(image: Image.Image, share: float, how: Image.Resampling) -> Image.Image:
    """``image`` at a ``share`` of its size."""
    return saved(image.resize((round(share * image.width), round(share * image.height)), how))


def cropped(image: Image.Image, share: float) -> Image.Image:
    """``image`` less a ``share`` of its width and height on each side."""
    left, top = round(share * image.width), round(share * image.height)
    return saved(image.crop((left, top, image.width - left, image.height - top)))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 40": lambda image: saved(image, 40),
    "half, box": lambda image: scaled(image, 0.5, Image.Resampling.BOX),
    "half, nearest": lambda image: scaled(image, 0.5, Image.Resampling.NEAREST),
    "half, Lanczos": lambda image: scaled(image, 0.5, Image.Resampling.LANCZOS),
    "a fifth, bilinear": lambda image: scaled(image, 0.2, Image.Resampling.BILINEAR),
    "crop of 0.5 %": lambda image: cropped(image, 0.005),
    "crop of 1 %": lambda image: cropped(image, 0.01),
    "crop of 2 %": lambda image: cropped(image, 0.02),
}


def bits(one: str, other: str) -> int:
    """By how many bits two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=40)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        prepared = open_data(DrawnData(people=given.people, images_per_aspect=2, height_px=480), cache=Path(cache))
        images = [Image.open(prepared.root / path).convert("RGB") for path in prepared.manifest["path"]]
    looks, gradients = [look_of(image) for image in images], [gradient_of(image) for image in images]
    print("| copy | most bits apart | least correlation |\n|---|---:|---:|")
    for name, change in CHANGES.items():
        copies = [change(image) for image in images]
        far = max(bits(look, look_of(copy)) for look, copy in zip(looks, copies, strict=True))
        both = [(gradient, gradient_of(copy)) for gradient, copy in zip(gradients, copies, strict=True)]
        correlations = [float(one @ other) for one, other in both if one is not None and other is not None]
        print(f"| {name} | {far} | {min(correlations):.3f} |")
    who = prepared.manifest["identity"].to_numpy()
    table = np.stack([gradient for gradient in gradients if gradient is not None])
    correlation = table @ table.T
    pairs = [(i, j) for i in range(len(images)) for j in range(i)]
    for name, same in (("others of the same person", True), ("strangers", False)):
        those = [(i, j) for i, j in pairs if (who[i] == who[j]) == same]
        nearest = min(bits(looks[i], looks[j]) for i, j in those)
        most = max(correlation[i, j] for i, j in those)
        print(f"| {name} ({len(those):,} pairs) | {nearest} (fewest) | {most:.3f} (most) |")


if __name__ == "__main__":
    main()
