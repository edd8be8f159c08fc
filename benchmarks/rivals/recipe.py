"""What the rivals train, in plain PyTorch with open_clip and PEFT: the recipes of this package's strategies, by hand.

Nothing of the package is imported: who has none of it writes this. Data are read from the folder of a drawn data set,
``manifest.csv`` and ``pictures/``; the model is loaded by open_clip's plain call.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

Rows = list[dict[str, str]]
Config = dict[str, Any]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BATCH = 32


def image_px(model_folder: str) -> int:
    """The side of the images that a model reads."""
    config = json.loads((Path(model_folder) / "open_clip_config.json").read_text())
    size: int = config["model_cfg"]["vision_cfg"]["image_size"]
    return size


def read_rows(data: Path, subset: str) -> Rows:
    """The rows of a data set's manifest that belong to ``subset``."""
    with (data / "manifest.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["subset"] == subset]


class Model(nn.Module):
    """The image tower, a linear map that begins as the identity where the tower is frozen, and a linear head."""

    def __init__(self, folder: str, config: Config, num_classes: int) -> None:
        super().__init__()
        clip = open_clip.create_model(f"local-dir:{folder}", force_custom_text=True)
        self.visual, width = clip.visual, clip.visual.output_dim
        self.head = nn.Linear(width, num_classes, bias=False)
        self.neck: nn.Module = nn.Identity()
        if config["strategy"] != "full":
            self.neck = nn.Linear(width, width)
            nn.init.eye_(self.neck.weight)
            nn.init.zeros_(self.neck.bias)
        if config["strategy"] == "lora":
            convolutions = [name for name, part in self.visual.named_modules() if isinstance(part, nn.Conv2d)]
            lora = LoraConfig(r=16, lora_alpha=32, target_modules=[name for name in convolutions if ".conv" in name])
            self.visual = inject_adapter_in_model(lora, self.visual)
        for name, weight in self.visual.named_parameters():
            weight.requires_grad = config["strategy"] == "full" or "lora_" in name
        self.frozen = config["strategy"] == "linear_probe"

    def embed(self, images: Tensor) -> Tensor:
        """Unit vectors [n, W] of images."""
        return F.normalize(self.neck(self.visual(images)), dim=-1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, C]."""
        with torch.set_grad_enabled(not self.frozen):
            features = self.visual(images)
        logits: Tensor = self.head(self.neck(features))
        return logits

    def train(self, mode: bool = True) -> "Model":
        """Batch norms of the tower stay as they were pretrained."""
        super().train(mode)
        self.visual.eval()
        return self


def decoder(side: int) -> Callable[[Path], Tensor]:
    """From a file to a tensor, by open_clip's own preprocessing for this model."""
    transform = open_clip.image_transform(
        side, is_train=False, mean=MEAN, std=STD, resize_mode="squash", interpolation="bicubic"
    )

    def decode(path: Path) -> Tensor:
        with Image.open(path) as image:
            found: Tensor = transform(image.convert("RGB"))
        return found

    return decode


def mean_average_precision(vectors: Tensor, identities: np.ndarray) -> float:
    """Each image once a query, all others the gallery."""
    scores = (vectors @ vectors.T).fill_diagonal_(-2).numpy()
    order = np.argsort(-scores, axis=1)[:, :-1]
    hits = identities[order] == identities[:, None]
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return float(np.mean((precision * hits).sum(axis=1) / hits.sum(axis=1)))


class Images:
    """Decoded images of a data set; with ``keep`` each is decoded once a process."""

    def __init__(self, data: Path, side: int, *, keep: bool) -> None:
        self.rows = {subset: read_rows(data, subset) for subset in ("train", "val")}
        self._pictures, self._decode, self._kept = data / "pictures", decoder(side), dict[str, Tensor]()
        self._keep = keep
        self.names = sorted({row["identity"] for row in self.rows["train"]})

    def batch(self, rows: Rows) -> Tensor:
        """Images [n, 3, S, S]."""
        return torch.stack([self._image(row["path"]) for row in rows])

    def _image(self, path: str) -> Tensor:
        found = self._kept.get(path)
        if found is None:
            found = self._decode(self._pictures / path)
            if self._keep:
                self._kept[path] = found
        return found


def epochs(config: Config, model_folder: str, images: Images, num: int) -> Iterator[float]:
    """Train by ``config`` for ``num`` epochs, and yield validation mAP after each."""
    torch.manual_seed(0)
    rows, val = images.rows["train"], images.rows["val"]
    model = Model(model_folder, config, len(images.names))
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=config["lr"])
    identities = np.array([row["identity"] for row in val])
    for _ in range(num):
        model.train()
        for chosen in torch.randperm(len(rows)).split(BATCH):
            batch = [rows[place] for place in chosen.tolist()]
            labels = torch.tensor([images.names.index(row["identity"]) for row in batch])
            optimizer.zero_grad()
            F.cross_entropy(model(images.batch(batch)), labels).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            parts = [val[start : start + 64] for start in range(0, len(val), 64)]
            vectors = torch.cat([model.embed(images.batch(part)) for part in parts])
        yield mean_average_precision(vectors, identities)
