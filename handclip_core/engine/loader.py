"""From a phase's data declaration to its batches."""

from dataclasses import dataclass

import torch

from handclip_core.data.augment import augment
from handclip_core.data.inputs import Inputs
from handclip_core.engine.phase import DataSpec
from handclip_core.types import Batch


@dataclass(frozen=True)
class PhaseLoader:
    """The batches of one phase. ``seed`` fixes the order; augmentation draws from torch's own generator."""

    spec: DataSpec
    inputs: Inputs
    seed: int
    device: torch.device

    def batch(self, step: int) -> Batch:
        """The batch of ``step``; its augmentation depends on torch's global seed at the time of the call."""
        positions = self.spec.sampler.step(step, self.spec.pool, seed=self.seed)
        rows = self.spec.rows[positions]
        inputs = self.inputs.of(rows, device=self.device)
        if isinstance(inputs, torch.Tensor):
            inputs = augment(inputs, self.spec.augment, generator=torch.default_generator)
        pool = self.spec.pool
        labels, aspects = (torch.from_numpy(of[positions]).to(self.device) for of in (pool.labels, pool.aspects))
        return Batch(inputs, labels=labels, rows=torch.from_numpy(rows), aspects=aspects)
