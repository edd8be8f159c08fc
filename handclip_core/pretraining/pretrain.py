"""Pretrain a small CLIP on drawn hands with captions: how the weights of ``handclip-nano`` were made.

Three losses in sum: CLIP's own between images and texts (Radford 2021, arXiv 2103.00020), whose captions say what is
particular about a hand or whose it is; the contrastive loss between two images of a hand and those of all others
(Khosla 2020, arXiv 2004.11362); and the zero-shot classification of the four aspects by their names.
"""

import json
import math
import pickle
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.config import Config, UserPath
from handclip_core.console import track
from handclip_core.documents import read_document
from handclip_core.errors import InputError
from handclip_core.losses.metric import supcon
from handclip_core.losses.pairs import pairs_of
from handclip_core.models.backbone import (
    CONFIG_FILE,
    LOCAL_FOLDER,
    NANO_FOLDER,
    RANDOM,
    WEIGHTS_FILE,
    Backbone,
    BackboneSettings,
    load_backbone,
)
from handclip_core.paths import output_folder
from handclip_core.pretraining.pairs import SHOWN, Batch, Drawings, Pairs, captioned_pairs, zero_shot_map
from handclip_core.pretraining.views import vary

CHECKPOINT_FILE = "checkpoint.pt"
REPORT_FILE = "pretrain.json"
MAX_LOGIT_SCALE = 100.0
"""CLIP's own limit."""
MAX_ASPECT_SCALE = 30.0
GRADIENT_NORM = 1.0
MAX_STEPS = 10_000_000
BETAS = (0.9, 0.98)


class PretrainSettings(Config):
    """Data, model and optimiser of a pretraining run."""

    out: UserPath
    """Folder to write: a folder that ``local-dir:OUT`` names as a backbone."""
    architecture: UserPath = NANO_FOLDER / CONFIG_FILE
    """open_clip configuration of the model."""
    seed: int = Field(0, ge=0)
    """Fixes drawings, captions, batches and views."""
    people: int = Field(1000, ge=2)
    """Drawn identities, of a population that no data set holds by default."""
    images_per_aspect: int = Field(4, ge=2)
    """Images of each aspect of each identity."""
    held_out_people: int = Field(40, ge=2)
    """Identities beside those trained on, whose images are ranked at every checkpoint."""
    draw_px: int = Field(128, ge=32)
    """Height of a drawn image before views are cut from it."""
    workers: int | None = Field(None, ge=1)
    """Processes that draw; none for all cores."""
    steps: int = Field(4000, ge=1, lt=MAX_STEPS)
    """Optimiser steps."""
    batch: int = Field(64, ge=8, multiple_of=8)
    """Images a step, two of each hand, at most twice as many as there are identities."""
    lr: float = Field(1.5e-3, gt=0)
    """Peak learning rate of AdamW; linear warm-up, then cosine to nothing."""
    text_lr_scale: float = Field(1.0, gt=0)
    """Learning rate of the text tower relative to the image tower's."""
    weight_decay: float = Field(0.05, ge=0)
    """Decay of weight matrices."""
    warmup_steps: int = Field(200, ge=0)
    """Steps of the warm-up."""
    temperature: float = Field(0.1, gt=0)
    """Of the loss between images."""
    name_share: float = Field(0.5, ge=0, le=1)
    """Share of batches whose texts only name the identity and the aspect."""
    strength: float = Field(0.7, ge=0, le=1)
    """Final strength of the random changes of light, colour, sharpness and place."""
    ramp: float = Field(0.6, ge=0, le=1)
    """Share of the steps over which the strength rises from nothing: at full strength from the start, a small network
    does not even learn to tell a palm from a back."""
    averaging: float = Field(0.998, ge=0, lt=1)
    """Decay of the moving average of weights, which is what is written."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the forward pass."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between checkpoints, each with a score on identities that are not trained on."""


@dataclass(frozen=True)
class Record:
    """One line of the report: step, mean loss since the line before, score on held-out identities, seconds of this
    run.
    """

    step: int
    loss: float
    held_out_map: float
    seconds: float


class _Run:
    """Everything that a checkpoint holds, and the step that changes it."""

    def __init__(self, settings: PretrainSettings, backbone: Backbone) -> None:
        self.settings = settings
        self.backbone = backbone.train().to(memory_format=torch.channels_last)
        self.average = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        self.optimizer = _optimizer(backbone, settings)
        self.between_images = supcon(temperature=settings.temperature)
        self.step = 0
        self.losses: list[float] = []
        self.records: list[Record] = []

    def advance(self, batch: Batch, prompts: Tensor) -> None:
        """One optimiser step; ``prompts`` [4, context] name the aspects."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * _lr_share(self.step, settings)
        self.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"):
            images = self.backbone(batch.images.contiguous(memory_format=torch.channels_last)).projected.float()
            words = self.backbone.encode_text(torch.cat([batch.texts, prompts])).float()
        assert self.backbone.logit_scale is not None
        scale = self.backbone.logit_scale.exp()
        texts, aspects = words.split([len(batch.texts), len(prompts)])
        loss = clip_loss(images, texts, scale, hands=batch.hands) + aspect_loss(images, aspects, scale, batch.aspects)
        loss = loss + self.between_images(pairs_of(images, batch.hands))
        loss.backward()
        nn.utils.clip_grad_norm_(self.backbone.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self.step += 1
        self.losses.append(loss.item())
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        assert self.backbone.logit_scale is not None
        self.backbone.logit_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))
        share = 1 - min(self.settings.averaging, self.step / (self.step + 10))
        for name, tensor in self.backbone.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, share)
            else:
                self.average[name].copy_(tensor)

    def note(self, seconds: float, score: float) -> Record:
        """Add a line to the report; starts a new mean of the loss."""
        record = Record(self.step, sum(self.losses) / max(1, len(self.losses)), score, seconds)
        self.records.append(record)
        self.losses = []
        return record

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        unfinished = path.with_suffix(".unfinished")
        state = {
            "settings": _identity(self.settings),
            "weights": self.backbone.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "records": [asdict(record) for record in self.records],
        }
        torch.save(state, unfinished)
        unfinished.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; raises InputError if it is of other settings or damaged."""
        try:
            state = torch.load(path, weights_only=True)
            settings = state["settings"]
        except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
            raise InputError(f"{path}: damaged ({error}); remove it to start anew") from None
        changed = sorted(key for key, value in _identity(self.settings).items() if settings.get(key) != value)
        if changed:
            raise InputError(f"{path}: of a run with another {', '.join(changed)}; name another folder or remove it")
        self.backbone.load_state_dict(state["weights"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.records = [Record(**record) for record in state["records"]]


def clip_loss(images: Tensor, texts: Tensor, scale: Tensor, *, hands: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy over a batch of pairs ``images`` [B, D] and ``texts`` [B, D] (arXiv 2103.00020).

    The mean of both directions of cross-entropy over ``scale`` times the cosines [B, B]. All texts of a hand are right
    for each of its images in equal parts; ``hands`` [B] says which hand a pair is of.
    """
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    right = (hands[:, None] == hands).float()
    target = right / right.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def aspect_loss(images: Tensor, prompts: Tensor, scale: Tensor, aspects: Tensor) -> Tensor:
    """Cross-entropy of the zero-shot classification of ``images`` [B, D] by ``prompts`` [4, D]; ``aspects`` is [B].

    The scale that many names ask for would be too sharp for four of them, hence the limit.
    """
    logits = scale.clamp(max=MAX_ASPECT_SCALE) * F.normalize(images, dim=1) @ F.normalize(prompts, dim=1).T
    return F.cross_entropy(logits, aspects)


def pretrain(settings: PretrainSettings) -> Path:
    """Train on drawn images and captions; returns ``settings.out``, a folder for the backbone name ``local-dir:OUT``.

    Beside weights and configuration it holds ``pretrain.json`` (settings, losses, scores) and a checkpoint from which
    the same command goes on after a stop, to bit-identical weights on the same machine. Raises InputError for an
    architecture that is missing or wrong, too few identities for a batch, and a checkpoint that is damaged or of other
    settings.
    """
    out = output_folder(settings.out, option="out")
    if settings.batch > SHOWN * settings.people:
        raise InputError(
            f"batch: {settings.batch} images need {settings.batch // SHOWN} identities, there are {settings.people}"
        )
    architecture = json.dumps(read_document(settings.architecture), indent=2) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG_FILE).write_text(architecture, encoding="utf-8")
    chosen = BackboneSettings(name=f"{LOCAL_FOLDER}{out}", pretrained=RANDOM, batch_norm="moving")
    run = _Run(settings, load_backbone(chosen, text=True))
    if (out / CHECKPOINT_FILE).exists():
        run.load(out / CHECKPOINT_FILE)
    if run.step < settings.steps:
        _train(run)
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in run.average.items()}
    save_file(weights, out / WEIGHTS_FILE)
    # safetensors writes files that only their owner may read.
    (out / WEIGHTS_FILE).chmod(0o644)
    report = {"settings": settings.model_dump(mode="json"), "records": [asdict(record) for record in run.records]}
    (out / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return out


def _train(run: _Run) -> None:
    settings, out = run.settings, run.settings.out
    pairs = captioned_pairs(_drawings(settings, people=settings.people, seed=settings.seed), run.backbone)
    held_out = _drawings(settings, people=settings.held_out_people, seed=settings.seed + 1)
    checked, _ = held_out.draw(size_px=run.backbone.image_px)
    started = time.monotonic()
    batches = _batches(pairs, settings, first=run.step, size_px=run.backbone.image_px)
    for batch in track(batches, description="pretraining", total=settings.steps - run.step):
        run.advance(batch, pairs.prompts)
        if run.step % settings.checkpoint_every == 0 or run.step == settings.steps:
            record = run.note(time.monotonic() - started, _score(run, checked))
            run.save(out / CHECKPOINT_FILE)
            _report(record)


def _batches(pairs: Pairs, settings: PretrainSettings, *, first: int, size_px: int) -> Iterator[Batch]:
    """Views and texts of every step from ``first`` on, each prepared while the step before is computed.

    All that is random in a step is a function of seed and step, so a resumed run is the same run.
    """

    def prepare(step: int) -> Batch:
        generator = torch.Generator().manual_seed(settings.seed * MAX_STEPS + step)
        batch = pairs.batch(settings.batch, name_share=settings.name_share, generator=generator)
        strength = settings.strength * min(1.0, step / max(1.0, settings.ramp * settings.steps))
        return replace(batch, images=vary(batch.images, size_px=size_px, strength=strength, generator=generator))

    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead = thread.submit(prepare, first)
        for step in range(first, settings.steps):
            ready = ahead.result()
            if step + 1 < settings.steps:
                ahead = thread.submit(prepare, step + 1)
            yield ready


def _score(run: _Run, images: Tensor) -> float:
    """Held-out mAP of the averaged weights; the weights in training are put back."""
    present = {name: tensor.clone() for name, tensor in run.backbone.state_dict().items()}
    run.backbone.load_state_dict(run.average)
    score = zero_shot_map(run.backbone, images)
    run.backbone.load_state_dict(present)
    run.backbone.train()
    return score


def _drawings(settings: PretrainSettings, *, people: int, seed: int) -> Drawings:
    return Drawings(people, settings.images_per_aspect, seed, settings.draw_px, settings.workers)


def _report(record: Record) -> None:
    line = (
        f"step {record.step}: loss {record.loss:.3f}, held-out mAP {record.held_out_map:.3f} ({record.seconds:.0f} s)"
    )
    print(line, file=sys.stderr, flush=True)


def _identity(settings: PretrainSettings) -> dict[str, Any]:
    """What a resumed run must share with the first one: all settings that change the weights."""
    return settings.model_dump(mode="json", exclude={"out", "workers", "checkpoint_every"})


def _optimizer(backbone: Backbone, settings: PretrainSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices alone: not gains, biases, embeddings and the temperature."""
    groups = [
        {
            "params": [tensor],
            "peak_lr": settings.lr * (settings.text_lr_scale if name.startswith("text.") else 1.0),
            "weight_decay": settings.weight_decay if tensor.ndim > 1 and "embedding" not in name else 0.0,
        }
        for name, tensor in backbone.named_parameters()
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=BETAS, fused=True)


def _lr_share(step: int, settings: PretrainSettings) -> float:
    """Linear warm-up, then half a cosine to nothing."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))
