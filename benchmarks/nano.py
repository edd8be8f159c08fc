"""How well handclip-nano ranks hands that it was not trained on, beside descriptors that learn nothing.

Each image but the first of an identity and aspect is a query against the first ones of all identities, aspect by
aspect. The second column changes the light, colour, sharpness and place of the queries alone, so that only the hand
stays the same. Then how often the aspect of an image is told: by a linear map fitted to the first half of the
identities, on the other half, and by the aspects' names. Run: python benchmarks/nano.py [PEOPLE] [IMAGES_PER_ASPECT]
[BACKBONE_NAME]
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from handclip_core.drawn import draw_arrays
from handclip_core.evaluation.baselines import hog_descriptors, pixel_descriptors
from handclip_core.evaluation.retrieval import embedding_scores
from handclip_core.models.backbone import NANO, Backbone, BackboneSettings, load_backbone
from handclip_core.pretraining.pairs import ASPECT_NAMES
from handclip_core.pretraining.views import vary

HEIGHT_PX = 240
BASELINE_PX = 128
STRENGTH = 0.7
Images = NDArray[np.uint8]
Describe = Callable[[Images], Tensor]


def draw(people: int, images: int, size_px: int) -> Images:
    """Images of the default population, squeezed to squares: [identities * 4 * images, size_px, size_px, 3]."""
    drawn = draw_arrays(
        population="default", seed=0, people=people, images_per_aspect=images, height_px=HEIGHT_PX, workers=None,
        captions=False,
    )  # fmt: skip
    squares = [Image.fromarray(one).resize((size_px, size_px), Image.Resampling.BICUBIC) for one in drawn.pixels]
    return np.stack([np.asarray(square) for square in squares])


def changed(batch: Images) -> Images:
    planes = torch.from_numpy(batch).permute(0, 3, 1, 2)
    views = vary(planes, size_px=planes.shape[-1], strength=STRENGTH, generator=torch.Generator().manual_seed(5))
    return (views * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def encoder(backbone: Backbone, part: str) -> Describe:
    @torch.no_grad()
    def encode(batch: Images) -> Tensor:
        planes = torch.from_numpy(batch).permute(0, 3, 1, 2).split(64)
        return torch.cat([getattr(backbone(part_.float() / 255), part) for part_ in planes])

    return encode


def mean_ap(queries: Tensor, gallery: Tensor, people: int, images: int) -> float:
    """Mean over the four aspects; both are [identities * 4 * images, D]."""
    ids = np.arange(people)
    asked, stored = (rows.unflatten(0, (people, 4, images)) for rows in (queries, gallery))
    scores = [
        embedding_scores(asked[:, k, 1:].flatten(0, 1), stored[:, k, 0], ids.repeat(images - 1), ids).map
        for k in range(4)
    ]
    return float(np.mean(scores))


def told_by_a_linear_map(features: Tensor, aspects: NDArray[np.int64]) -> float:
    half = len(aspects) // 2
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    rows = features.numpy()
    return float(regression.fit(rows[:half], aspects[:half]).score(rows[half:], aspects[half:]))


@torch.no_grad()
def told_by_names(backbone: Backbone, embeddings: Tensor, aspects: NDArray[np.int64]) -> float:
    prompts = backbone.encode_text(backbone.tokenize([f"a photo of a {name}" for name in ASPECT_NAMES]))
    return float(((embeddings @ prompts.T / prompts.norm(dim=1)).argmax(dim=1).numpy() == aspects).mean())


def main() -> None:
    numbers = [int(value) for value in sys.argv[1:3]]
    people, images = numbers + [60, 5][len(numbers) :]
    name = sys.argv[3] if len(sys.argv) > 3 else NANO
    backbone = load_backbone(BackboneSettings(name=name), text=True)
    untrained = load_backbone(BackboneSettings(name=name, pretrained="random"))
    large, small = draw(people, images, BASELINE_PX), draw(people, images, backbone.image_px)
    rows: list[tuple[str, Describe, Images]] = [
        ("32 x 32 pixels", lambda batch: torch.from_numpy(pixel_descriptors(batch)), large),
        ("HOG", lambda batch: torch.from_numpy(hog_descriptors(batch)), large),
        ("untrained, features", encoder(untrained, "features"), small),
        (f"{name}, features", encoder(backbone, "features"), small),
        (name, encoder(backbone, "projected"), small),
    ]
    print(f"{people} drawn identities, {len(large)} images; mAP of queries as drawn, and changed")
    for label, describe, batch in rows:
        plain, other = describe(batch), describe(changed(batch))
        print(f"{label:28s} {mean_ap(plain, plain, people, images):.3f}  {mean_ap(other, plain, people, images):.3f}")
    aspects = np.tile(np.repeat(np.arange(4), images), people)
    print("aspect told rightly, 4 aspects")
    for label, describe, batch in rows[3:]:
        print(f"{label + ', linear map':28s} {told_by_a_linear_map(describe(batch), aspects):.3f}")
    print(f"{name + ', names':28s} {told_by_names(backbone, encoder(backbone, 'projected')(small), aspects):.3f}")


if __name__ == "__main__":
    main()
