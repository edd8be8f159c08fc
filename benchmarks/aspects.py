"""How well the image tower of handclip-nano can learn to tell aspects, as the only thing that it is trained for.

What is in reach of a router, beside what the aspect classifier of ``multi_branch`` reaches while its tower learns to
tell people apart. Run: python benchmarks/aspects.py [--people 72] [--epochs 20]
"""

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from handclip_core.data.sources import DrawnData
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.types import HAND_ASPECTS

CPU = torch.device("cpu")
BATCH = 32
LR, HEAD_LR = 7e-4, 7e-3


def predicted(tower: nn.Module, head: nn.Module, rows: NDArray[np.int64], context: ExperimentContext) -> torch.Tensor:
    """The aspect [n] of each of ``rows`` [n]."""
    tower.eval()
    with torch.no_grad():
        parts = [context.pixel_inputs.of(part, device=CPU) for part in np.array_split(rows, len(rows) // BATCH)]
        return torch.cat([head(tower(part).features).argmax(dim=1) for part in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=72)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    context = open_context(DrawnData(people=given.people, images_per_aspect=5), BackboneSettings(), CPU)
    aspects, train, test = torch.from_numpy(context.aspect_indices), context.training_data().rows, context.rows("test")
    tower = context.backbone()
    head = nn.Linear(tower.width, len(HAND_ASPECTS))
    nn.init.zeros_(head.weight)
    groups = [{"params": tower.parameters(), "lr": LR}, {"params": head.parameters(), "lr": HEAD_LR}]
    optimizer = torch.optim.AdamW(groups)
    print("| epoch | all four | palm or back | right or left |\n|---:|---:|---:|---:|")
    for epoch in range(1, given.epochs + 1):
        order = np.random.default_rng(epoch).permutation(train)
        for rows in np.array_split(order, len(train) // BATCH + 1):
            tower.train()
            loss = F.cross_entropy(head(tower(context.pixel_inputs.of(rows, device=CPU)).features), aspects[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 5 == 0:
            found, shown = predicted(tower, head, test, context), aspects[test]
            right = (found == shown, found // 2 == shown // 2, found % 2 == shown % 2)
            print(f"| {epoch} | " + " | ".join(f"{share.float().mean():.3f}" for share in right) + " |", flush=True)


if __name__ == "__main__":
    main()
