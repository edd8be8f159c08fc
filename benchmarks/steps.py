"""What a training step costs beside its kernels: a linear probe on cached features, and the optimiser alone.

Processor time, of one thread, so that neighbours on the machine do not count. Run: python benchmarks/steps.py
"""

import statistics
import time

import torch
from torch import nn
from torch.nn import functional

from handclip_core.engine.loop import Budget, train
from handclip_core.engine.optim import build_optimizer, choose
from handclip_core.engine.phase import Optim, Train
from handclip_core.runs.experiment import Experiment, assemble, context_of

CPU = torch.device("cpu")
PROBE = {
    "strategy": {"name": "linear_probe"},
    "data": {"source": "drawn", "people": 12, "images_per_aspect": 3, "height_px": 96},
    "budget": 200,
}
FULL = {**PROBE, "strategy": {"name": "full", "neck": {"kind": "bn"}}, "budget": 1}
STEPS = 6
ROUNDS = 5


def probe_ms() -> float:
    """Milliseconds a step of a linear probe on 36 images."""
    ready = assemble(Experiment.model_validate(PROBE), context_of(Experiment.model_validate(PROBE), CPU))
    budget = Budget(1, ready.budget.units * ready.budget.epoch_images)
    started = time.process_time()
    *_, last = train(ready.model, ready.phases, loader=ready.loader, budget=budget, seed=0)
    return (time.process_time() - started) / last.state.position.step * 1e3


def optimiser_ms(tensors: int, side: int) -> float:
    """Milliseconds a step of the optimiser on so many square matrices."""
    model = nn.ModuleDict({"weights": nn.ParameterList(torch.randn(side, side) for _ in range(tensors))})
    optimizer = build_optimizer(choose(model, (Train("weights"),)), Optim())
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    started = time.process_time()
    optimizer.step()
    return (time.process_time() - started) * 1e3


def full_ms() -> tuple[float, float]:
    """Milliseconds a step of full fine-tuning, and of a bare loop of the same model, loss and optimiser."""
    experiment = Experiment.model_validate(FULL)
    ready, bare = (assemble(experiment, context_of(experiment, CPU)) for _ in range(2))
    started = time.process_time()
    batch_size = ready.phases[0].data.sampler.batch_size
    *_, last = train(ready.model, ready.phases, loader=ready.loader, budget=Budget(1, STEPS * batch_size), seed=0)
    ours = (time.process_time() - started) / last.state.position.step
    loader, optimizer = bare.loader(0), torch.optim.AdamW(bare.model.parameters(), lr=1e-4, fused=True)
    bare.model.train()
    started = time.process_time()
    for step in range(STEPS):
        batch = loader.batch(step)
        optimizer.zero_grad()
        functional.cross_entropy(bare.model(batch).logits, batch.labels).backward()
        optimizer.step()
    return ours * 1e3, (time.process_time() - started) / STEPS * 1e3


def main() -> None:
    torch.set_num_threads(1)
    probe_ms()  # fills the caches
    print(f"linear probe, a step: {statistics.median(probe_ms() for _ in range(ROUNDS)):.2f} ms")
    ours, bare = min(full_ms() for _ in range(ROUNDS))
    print(f"full fine-tuning of handclip-nano, a step: {ours:.0f} ms, in a bare loop {bare:.0f}")
    print(f"optimiser, 88 M weights: {statistics.median(optimiser_ms(150, 768) for _ in range(ROUNDS)):.0f} ms")


if __name__ == "__main__":
    main()
