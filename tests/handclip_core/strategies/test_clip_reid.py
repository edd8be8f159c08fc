import dataclasses
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.sources import DrawnData
from handclip_core.engine.phase import Optim
from handclip_core.errors import InputError
from handclip_core.local import train_into
from handclip_core.losses.settings import CenterSettings, ContrastiveSettings, IdentitySettings, Losses
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.neck import NeckInput, NeckKind, NeckSettings
from handclip_core.models.prompted import PartedOutput, PromptedModel
from handclip_core.reports.plans import plan_table
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Assembled, Experiment, assemble, run
from handclip_core.runs.run_folder import read_log, read_state
from handclip_core.strategies.clip_reid import ClipReid, PromptSettings
from tests.conftest import TINY_DATA
from tests.handclip_core.strategies.test_strategies_contract import resumes_bit_for_bit

CPU = torch.device("cpu")
QUICK = Optim(lr=1e-3, batch_size=8)


def experiment_of(strategy: ClipReid, context: ExperimentContext, *, budget: int = 2) -> Experiment:
    data: DrawnData = TINY_DATA
    return Experiment(strategy=strategy, data=data, backbone=context.settings, budget=budget, seed=3)


def ready_of(strategy: ClipReid, context: ExperimentContext) -> Assembled:
    return assemble(experiment_of(strategy, context), context)


def share_of_images_nearest_to_their_own_text(ready: Assembled, tokens: Tensor) -> float:
    """By cosine, of all training images before all texts, as the pretrained image tower sees them."""
    assert isinstance(ready.model, PromptedModel)
    prompts, data = ready.model.prompts.requires_grad_(False), ready.phases[0].data
    prompts.load_state_dict({"tokens": tokens})
    images = F.normalize(ready.context.feature_inputs.of(data.rows, device=CPU).projected, dim=1)
    texts = F.normalize(prompts(torch.tensor([0])).embedding, dim=1)
    return float(((images @ texts.T).argmax(dim=1).numpy() == data.pool.labels).mean())


def test_the_first_stage_reads_cached_features_and_is_not_evaluated(tiny_context: ExperimentContext) -> None:
    ready = ready_of(ClipReid(), tiny_context)
    assert [phase.name for phase in ready.phases] == ["prompts", "image"]
    assert [phase.evaluate for phase in ready.phases] == [False, True]
    assert ready.cached_blocks(0) == len(tiny_context.pretrained.blocks())
    assert "cached features" in plan_table(experiment_of(ClipReid(), tiny_context), device=CPU)


def test_the_first_stage_learns_texts_that_fit_the_images() -> None:
    context = open_context(TINY_DATA, BackboneSettings(), CPU)
    prompts = PromptSettings(share=0.97, optim=Optim(lr=0.03, batch_size=16))
    strategy = ClipReid(prompts=prompts, optim=QUICK)
    ready = ready_of(strategy, context)
    tokens = ready.model.get_parameter("prompts.tokens").detach().clone()
    *_, last = run(experiment_of(strategy, context, budget=20), device=CPU)
    learned = last.state.model.get_parameter("prompts.tokens").detach()
    before, after = (share_of_images_nearest_to_their_own_text(ready, found) for found in (tokens, learned))
    assert after > max(0.5, before + 0.2)


def test_by_default_the_second_stage_has_the_losses_of_the_paper(tiny_context: ExperimentContext) -> None:
    image = ready_of(ClipReid(), tiny_context).phases[1]
    assert {term.name: term.weight for term in image.terms} == {
        "identity_projected": 0.25,
        "triplet_projected": 1.0,
        "identity_trunk": 0.25,
        "triplet_trunk": 1.0,
        "image_text": 1.0,
    }


def test_a_loss_of_one_part_reads_that_part_alone(tiny_context: ExperimentContext) -> None:
    ready = ready_of(ClipReid(optim=QUICK), tiny_context)
    batch = ready.loader(1).batch(0)
    output = ready.model(batch)
    assert isinstance(output, PartedOutput)
    nothing = dataclasses.replace(output.parts[1], logits=output.parts[1].logits * torch.nan)
    spoilt = dataclasses.replace(output, parts=(output.parts[0], nothing))
    values = {term.name: term.loss(spoilt, batch).item() for term in ready.phases[1].terms}
    assert [name for name, value in values.items() if value != value] == ["identity_trunk"]


def test_weights_of_zero_leave_a_loss_out_and_one_vector_has_one_head(tiny_context: ExperimentContext) -> None:
    strategy = ClipReid(
        neck=NeckSettings(kind=NeckKind.BN, source=NeckInput.PROJECTED),
        losses=Losses(identity=IdentitySettings(weight=1.0)),
    )
    assert [term.name for term in ready_of(strategy, tiny_context).phases[1].terms] == ["identity_projected"]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.7, 0.95])
def test_a_budget_of_one_unit_trains_the_image_tower_and_is_evaluated(
    share: float, tiny_context: ExperimentContext
) -> None:
    strategy = ClipReid(prompts=PromptSettings(share=share), optim=QUICK)
    (only,) = run(experiment_of(strategy, tiny_context, budget=1), device=CPU)
    assert (only.unit, only.phase, only.evaluated) == (1, "image", True)
    assert set(only.losses) >= {"image_text", "identity_trunk"}


def test_every_unit_of_the_first_stage_can_be_saved_and_is_logged(
    tiny_context: ExperimentContext, tmp_path: Path
) -> None:
    prompts = PromptSettings(share=0.5, optim=QUICK)
    experiment = experiment_of(ClipReid(prompts=prompts, optim=QUICK), tiny_context, budget=4)
    record = train_into(tmp_path / "run", experiment, device=CPU)
    assert [row["phase"] for row in record.log] == ["prompts", "prompts", "image", "image"]
    assert [row["unit"] for row in record.log if "map" in row] == [3, 4]
    learned = [row["loss/image_text"] for row in record.log[:2]]
    assert 0 < learned[1] < learned[0]
    assert read_log(tmp_path / "run" / "training_log.csv") == record.log


def test_a_killed_first_stage_is_resumed_where_it_stood(tiny_context: ExperimentContext, tmp_path: Path) -> None:
    experiment = experiment_of(ClipReid(optim=QUICK), tiny_context, budget=4)
    driven = drive(experiment, tmp_path / "run", device=CPU)
    next(driven)
    driven.keep()
    tokens = driven.model.get_parameter("prompts.tokens").detach().clone()
    state = read_state(tmp_path / "run" / "checkpoint")
    assert (state.position.phase, state.position.unit) == (0, 1)
    assert torch.equal(state.model["prompts.tokens"], tokens)
    resumed = train_into(tmp_path / "run", experiment, device=CPU, resume=True)
    assert [row["unit"] for row in resumed.log] == [1, 2, 3, 4]


def test_a_resumed_run_keeps_memories_centres_and_averages_of_both_stages(
    tiny_context: ExperimentContext, tmp_path: Path
) -> None:
    strategy = ClipReid(
        prompts=PromptSettings(share=0.3, optim=Optim(lr=1e-2, batch_size=16, ema=0.9)),
        optim=QUICK.model_copy(update={"ema": 0.9}),
        losses=Losses(contrastive=ContrastiveSettings(weight=1.0), center=CenterSettings(weight=0.01), memory=20),
    )
    resumes_bit_for_bit(experiment_of(strategy, tiny_context, budget=4), tmp_path)


def test_batch_statistics_of_the_frozen_tower_do_not_move_in_the_first_stage(
    tiny_backbones: dict[str, BackboneSettings],
) -> None:
    settings = tiny_backbones["resnet"].model_copy(update={"batch_norm": "moving"})
    context = open_context(TINY_DATA, settings, CPU)
    ready = ready_of(ClipReid(optim=QUICK), context)
    assert [phase.evaluate for phase in ready.phases] == [False, True]
    assert ready.cached_blocks(0) == len(context.pretrained.blocks())


@pytest.mark.parametrize("template", ["A photo of a hand.", "{} and {}", "A photo of {}hand.", "A photo of {}."])
def test_a_template_needs_one_slot_that_is_a_word(template: str) -> None:
    with pytest.raises(ValidationError, match=r"must hold \{\} once, as a word of its own"):
        PromptSettings(template=template)


def test_losses_on_one_named_vector_are_refused() -> None:
    with pytest.raises(InputError, match=r"losses.on: choose the vectors by neck.source"):
        ClipReid.parse({"losses": {**ClipReid().losses.model_dump(), "on": "trunk"}}, source="settings")


def test_a_text_too_long_for_the_tower_is_the_users_to_mend(tiny_context: ExperimentContext) -> None:
    with pytest.raises(InputError, match="a text of 20 tokens, 12 of them learned, is longer than the text tower's 16"):
        ready_of(ClipReid(prompts=PromptSettings(num_tokens=12)), tiny_context)
