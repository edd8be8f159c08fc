"""The loss between images and their captions, in any strategy."""

import dataclasses
from pathlib import Path

import pytest
import torch

from handclip_core.errors import InputError
from handclip_core.losses.captioned import CaptionedLoss
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, assemble
from handclip_core.strategies import Full
from handclip_core.types import Aspect
from tests.conftest import TINY_DATA
from tests.handclip_core.strategies.test_strategies_contract import resumes_bit_for_bit

STRATEGY = Full.model_validate({"losses": {"image_text": {"weight": 0.5}}, "optim": {"batch_size": 8, "lr": 1e-3}})


def experiment_of(context: ExperimentContext) -> Experiment:
    return Experiment(strategy=STRATEGY, data=TINY_DATA, backbone=context.settings, budget=2)


def test_every_training_image_has_a_caption_as_the_pretrained_text_tower_reads_it(
    tiny_context: ExperimentContext,
) -> None:
    term = assemble(experiment_of(tiny_context), tiny_context).phases[0].terms[-1]
    assert (term.name, term.weight) == ("image_text", 0.5)
    assert isinstance(term.loss, CaptionedLoss)
    data = tiny_context.training_data()
    captions = data.captions()
    text = tiny_context.backbone(text=True)
    with torch.no_grad():
        expected = text.encode_text(text.tokenize([captions.texts[captions.text_of_row[data.rows[5]]]]))
    row = term.loss.caption_of_row[data.rows[5]]
    torch.testing.assert_close(term.loss.captions[row], expected[0])
    assert set(captions.text_of_row[data.rows]) == set(range(len(captions.texts)))
    assert set(captions.text_of_row[tiny_context.rows("val")]) == {-1}


def test_a_run_with_captions_resumes_bit_for_bit(tiny_context: ExperimentContext, tmp_path: Path) -> None:
    resumes_bit_for_bit(experiment_of(tiny_context), tmp_path)


def test_data_that_say_the_same_of_all_images_are_refused(tiny_context: ExperimentContext) -> None:
    manifest = tiny_context.prepared.manifest.assign(
        aspect="unknown", gender="", skin_tone="", nail_polish=0, accessories=0, irregularities=0
    )
    mute = dataclasses.replace(tiny_context.prepared, manifest=manifest)
    data = dataclasses.replace(tiny_context.training_data(), prepared=mute, aspects=(Aspect.UNKNOWN,))
    with pytest.raises(InputError, match="every training image has the caption 'a photo of a hand'"):
        STRATEGY.caption_terms(data)
