"""Identify people with an exported model: needs onnxruntime, Pillow and NumPy, and nothing else.

    python identify.py model.onnx ENROLLED QUERIES [--out embeddings.npy]

ENROLLED holds <identity>/<image>; QUERIES holds images at any depth. Prints the best identity for each query. An
identity scores as its best image does; of equal scores the first in the order of names wins.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
UNKNOWN = 4
"""The view of an image of which nobody says what it shows, in models that have a part for each view."""
BATCH = 32


class Tower:
    """An exported image tower; ``about`` is what its file says of itself."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.about = json.loads(self.session.get_modelmeta().custom_metadata_map["handclip"])

    def embed(self, paths: list[Path]) -> np.ndarray:
        """Unit vectors [n, W] of image files."""
        parts = [self._run(paths[start : start + BATCH]) for start in range(0, len(paths), BATCH)]
        return np.concatenate(parts)

    def _run(self, paths: list[Path]) -> np.ndarray:
        images = np.stack([self.square(path) for path in paths])
        given = {"images": images}
        if self.about["views"]:
            given["views"] = np.full(len(images), UNKNOWN, np.int64)
        found: np.ndarray = self.session.run(None, given)[0]
        return found

    def square(self, path: Path) -> np.ndarray:
        """An image file as uint8 [S, S, 3], decoded and framed as in training."""
        size, framing = self.about["size_px"], self.about["framing"]
        resampling = RESAMPLING[self.about["interpolation"]]
        opened = Image.open(path)
        if framing == "squash":
            opened.draft("RGB", (size, size))
        image = ImageOps.exif_transpose(opened).convert("RGB")
        if framing == "squash":
            return np.asarray(image.resize((size, size), resampling))
        if framing == "pad":
            return np.asarray(self._padded(image, size, resampling))
        longer = int(size * max(image.size) / min(image.size))
        shape = (size, longer) if image.width <= image.height else (longer, size)
        left, top = (round((side - size) / 2) for side in shape)
        return np.asarray(image.resize(shape, resampling).crop((left, top, left + size, top + size)))

    def _padded(self, image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
        ratio = max(image.size) / size
        width, height = (max(1, round(side / ratio)) for side in image.size)
        square = Image.new("RGB", (size, size), (self.about["fill"],) * 3)
        square.paste(image.resize((width, height), resampling), ((size - width) // 2, (size - height) // 2))
        return square


def images_below(folder: str) -> list[Path]:
    """The images in a folder and below it, in order."""
    return [path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in SUFFIXES]


def main() -> None:
    """Enrol, search, print."""
    parser = argparse.ArgumentParser(description="Identify people with an exported model.")
    parser.add_argument("model", help="model.onnx")
    parser.add_argument("enrolled", help="folder of <identity>/<image>")
    parser.add_argument("queries", help="folder of images")
    parser.add_argument("--out", help="write the queries' embeddings here, as .npy")
    given = parser.parse_args()
    tower = Tower(given.model)
    known, asked = images_below(given.enrolled), images_below(given.queries)
    who = [path.relative_to(given.enrolled).parts[0] for path in known]
    queries = tower.embed(asked)
    scores = queries @ tower.embed(known).T
    for path, row in zip(asked, scores, strict=True):
        best = min(range(len(row)), key=lambda place: (-row[place], who[place]))
        print(f"{who[best]}\t{row[best]:.4f}\t{path}")
    if given.out:
        np.save(given.out, queries)


if __name__ == "__main__":
    main()
