"""An experiment: strategy, data, backbone, seed and budget; and the one function that runs it."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from handclip_core.config import Config
from handclip_core.data.inputs import FeatureInputs, Inputs, PixelInputs, cached_features
from handclip_core.data.leaks import check_leaks
from handclip_core.data.manifest import Prepared, draw_rows
from handclip_core.data.pixels import PixelCache, pixel_cache
from handclip_core.data.sources import DataSettings, DrawnData, PreparedData, open_data
from handclip_core.data.training import Part, TrainingData
from handclip_core.engine.feed import PhaseFeed
from handclip_core.engine.loop import Budget, Point, train
from handclip_core.engine.optim import choose
from handclip_core.engine.phase import Phase
from handclip_core.engine.state import Position, Resume, TrainingState
from handclip_core.evaluation.embed import embed
from handclip_core.evaluation.protocol import ProtocolScores, score_draws
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.paths import cache_root
from handclip_core.strategies import AnyStrategy
from handclip_core.types import HAND_ASPECTS, Aspect


class Experiment(Config):
    """Everything that fixes a training run; its JSON alone runs it again."""

    strategy: AnyStrategy
    """How CLIP is fine-tuned."""
    data: DataSettings = DrawnData()
    """Which pictures."""
    backbone: BackboneSettings = BackboneSettings()
    """Which CLIP."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Fixes the order of the pictures, the random weights and the augmentation."""
    budget: int = Field(10, ge=1, le=100_000)
    """Budget units: images shown, in epochs of the training split. The run reports once a unit."""
