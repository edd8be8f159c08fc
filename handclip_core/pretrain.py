"""Pretrain a small CLIP on drawn hands with captions: how the weights of ``handclip-nano`` were made.

The loss is CLIP's own (Radford 2021, arXiv 2103.00020). What makes the result tell people apart is the data: captions say
what is particular about a hand, some also call its owner by a name, and a batch holds no two pictures of the same hand.
"""

import csv
import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.config import Config
from handclip_core.console import track
from handclip_core.errors import InputError
from handclip_core.models.backbone import (
    CONFIG_FILE,
    NANO_FOLDER,
    RANDOM,
    WEIGHTS_FILE,
    Backbone,
    BackboneSettings,
    load_backbone,
)
from handclip_core.pretrain_pairs import Pairs, draw_pairs, zero_shot_map
from handclip_core.pretrain_views import vary

CHECKPOINT_FILE = "checkpoint.pt"
LOG_FILE = "pretrain_log.csv"
REPORT_FILE = "pretrain.json"
MAX_LOGIT_SCALE = 100.0
"""CLIP's own limit."""


class PretrainSettings(Config):
    """Data, model and optimiser of a pretraining run."""

    out: Path
    """Folder to write: a folder that ``local-dir:OUT`` names as a backbone."""
    architecture: Path = NANO_FOLDER / CONFIG_FILE
    """open_clip configuration of the model."""
    seed: int = Field(0, ge=0)
    """Fixes drawings, captions, batches and views."""
    people: int = Field(1500, ge=2)
    """Drawn people, of a population that no data set holds by default."""
    images_per_aspect: int = Field(5, ge=1)
    """Pictures of each aspect of each person."""
    draw_px: int = Field(128, ge=32)
    """Height of a drawn picture before views are cut from it."""
    workers: int | None = Field(None, ge=1)
    """Processes that draw; none for all cores."""
    steps: int = Field(5000, ge=1)
    """Optimiser steps."""
    batch: int = Field(192, ge=4)
    """Pictures a step; half as many people, each with pictures of two aspects."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW; linear warm-up, then cosine to nothing."""
    weight_decay: float = Field(0.1, ge=0)
    """Decay of weight matrices."""
    warmup_steps: int = Field(200, ge=0)
    """Steps of the warm-up."""
    patch_dropout: float = Field(0.5, ge=0, lt=1)
    """Share of patches left out in training (FLIP: Li 2023, arXiv 2212.00794)."""
    name_share: float = Field(0.67, ge=0, le=1)
    """Share of captions that name the person, half of them saying nothing else but the aspect."""
    averaging: float = Field(0.998, ge=0, lt=1)
    """Decay of the moving average of weights, which is what is written."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the forward pass."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints, each with a score on people who are not trained on."""
