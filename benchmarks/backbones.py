"""Which architectures of the installed open_clip load: a random member of each family, built, run and cut into blocks.

    python benchmarks/backbones.py [--all] [--most-million 700]

Prints a table in Markdown: the member, its size, its blocks, how far its embeddings are from open_clip's own, whether
its texts can be read here, or the reason of a refusal.
"""

import argparse
import random
import re
import time
from collections import defaultdict

import open_clip
import torch

from handclip_core.errors import InputError
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone

SEED = 0
SIZE = r"tiny|small|base|large2?|x+large|giant|giantopt|gigantic|enormous|so400m|mci\d|patch\d+|window\d+|\d{3}"
"""Parts of a model's name in timm that say how large it is."""
HEADINGS = ("family", "members", "tried", "weights", "blocks", "image", "off", "texts", "s")


def family_of(name: str) -> str:
    """The name without sizes, resolutions and data sets: what is built alike."""
    config = open_clip.get_model_config(name)
    tower = config["vision_cfg"].get("timm_model_name")
    text = config["text_cfg"].get("hf_model_name")
    kind = tower or ("ModifiedResNet" if isinstance(config["vision_cfg"].get("layers"), list) else "VisionTransformer")
    kind = re.sub(
        r"_(tiny|small|base|medium|large2?|xlarge|xxlarge|giant|giantopt|gigantic|enormous|so400m)\b", "", kind
    )
    kind = "_".join(part for part in kind.split("_") if not re.fullmatch(SIZE, part)).replace("fastvit_", "fastvit")
    marks = ["CoCa"] * ("multimodal_cfg" in config) + ["CLIPA"] * ("CLIPA" in name) + [text or ""]
    return " ".join([kind, *filter(None, marks)])


def size_of(name: str) -> float:
    """A guess of the millions of weights of an image tower by its name, to leave out what does not fit into memory."""
    config = open_clip.get_model_config(name)["vision_cfg"]
    if "timm_model_name" in config or isinstance(config.get("layers"), list):
        large = {"enormous": 4000, "gigantic": 1900, "giant": 1000, "xxlarge": 850, "xlarge": 430, "so400m": 430}
        return next((size for mark, size in large.items() if mark in config.get("timm_model_name", "")), 100)
    return float(12 * config.get("layers", 12) * config.get("width", 768) ** 2 / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true", help="every member instead of one a family")
    parser.add_argument("--most-million", type=float, default=700, help="leave out towers of more million weights")
    chosen = parser.parse_args()
    families: dict[str, list[str]] = defaultdict(list)
    for name in open_clip.list_models():
        families[family_of(name)].append(name)
    print(f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|")
    draw = random.Random(SEED)
    for family, members in families.items():
        fitting = [name for name in members if size_of(name) <= chosen.most_million]
        tried = fitting if chosen.all else [draw.choice(fitting)] if fitting else []
        for name in tried:
            print(f"| {family} | {len(members)} | {name} | {row_of(name)} |", flush=True)
        if not tried:
            print(f"| {family} | {len(members)} | - | more than {chosen.most_million:g} million weights | | | | | |")


@torch.no_grad()
def row_of(name: str) -> str:
    began = time.monotonic()
    try:
        backbone = load_backbone(BackboneSettings(name=name, pretrained="random"))
    except InputError as error:
        return f"refused: {error} | | | | | {time.monotonic() - began:.0f}"
    size = f"{backbone.num_weights / 1e6:.0f} M | {len(backbone.blocks())} | {backbone.image_px}"
    return f"{size} | {off(backbone):.0e} | {texts_of(name)} | {time.monotonic() - began:.0f}"


def off(backbone: Backbone) -> float:
    """The largest difference of an embedding from the tower's own, relative to the embedding's largest number."""
    pixels = torch.rand(1, 3, backbone.image_px, backbone.image_px, generator=torch.Generator().manual_seed(SEED))
    expected = backbone.visual((pixels - backbone.mean) / backbone.std)
    expected = expected[0] if isinstance(expected, tuple) else expected
    middle = len(backbone.blocks()) // 2
    found = backbone.tail_blocks(backbone.head_blocks(pixels, middle), middle).projected
    return float((found - expected).abs().max() / expected.abs().max())


def texts_of(name: str) -> str:
    """Whether the text tower is one that is read, judged by its configuration: to build it takes long."""
    config = open_clip.get_model_config(name)["text_cfg"]
    if "hf_model_name" in config:
        return "refused: tower of transformers"
    return "with its tokenizer from the network" if "hf_tokenizer_name" in config else "yes"


if __name__ == "__main__":
    main()
