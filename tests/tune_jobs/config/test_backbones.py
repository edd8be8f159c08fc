"""One backbone or several: how they are given, and what each is called."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from handclip_core.models.backbone import BackboneSettings
from search_spaces.arms import backbone_in
from tests.tune_jobs.simulated import settings
from tune_jobs.config.backbones import SearchedBackbones, as_it_is, as_tuple, can_use, labels, labels_in

GIVEN: TypeAdapter[Any] = TypeAdapter(SearchedBackbones)
NANO, RN50 = BackboneSettings(), BackboneSettings(name="RN50", pretrained="openai")
IMAGES_ONLY = BackboneSettings(name="timm/test_vit", pretrained="random")


@pytest.mark.parametrize("given", ["handclip-nano", {"name": "handclip-nano"}, NANO, ["handclip-nano"], (NANO,)])
def test_a_single_backbone_is_that_one_however_it_is_given(given: Any) -> None:
    assert GIVEN.validate_python(given) == NANO


def test_several_keep_their_order() -> None:
    given = [{"name": "RN50", "pretrained": "openai"}, "handclip-nano", IMAGES_ONLY]
    found = GIVEN.validate_python(given)
    assert found == (RN50, NANO, IMAGES_ONLY)
    assert (as_tuple(found), as_tuple(NANO)) == (found, (NANO,))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "name at least one backbone"),
        (["RN50", "handclip-nano", {"name": "RN50", "framing": "squash"}], "RN50 is named twice"),
        ({"nam": "RN50"}, "nam"),
        (50, "50"),
    ],
)
def test_none_and_the_same_twice_and_unknown_keys_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GIVEN.validate_python(given)


def test_what_reads_texts_needs_a_text_tower() -> None:
    strategies = ("full", "clip_reid", "zero_shot")
    assert [can_use(strategy, IMAGES_ONLY) for strategy in strategies] == [True, False, True]
    assert all(can_use(strategy, RN50) for strategy in strategies)


def test_an_image_tower_alone_is_not_said_to_be_clip() -> None:
    assert [as_it_is(one) for one in (RN50, IMAGES_ONLY)] == ["CLIP as it is", "its backbone as it is"]


def test_one_has_no_name_and_several_are_called_by_the_last_part_of_theirs() -> None:
    assert labels([RN50]) == {RN50: ""}
    assert labels([IMAGES_ONLY, RN50]) == {IMAGES_ONLY: "test_vit", RN50: "RN50"}


def test_of_two_that_are_called_alike_only_those_with_weights_of_their_own_name_them() -> None:
    plain = BackboneSettings(name="local-dir:/models/RN50")
    assert labels([plain, RN50]) == {plain: "RN50", RN50: "RN50-openai"}


def test_stored_settings_of_one_backbone_name_none_and_those_of_several_all() -> None:
    one = NANO.model_dump(mode="json")
    assert labels_in(None) == labels_in(one) == {}
    assert labels_in([one]) == {NANO: ""}
    stored = [one.model_dump(mode="json") for one in (NANO, RN50)]
    assert labels_in(stored) == {NANO: "handclip-nano", RN50: "RN50"}


def test_backbones_that_are_called_alike_get_names_that_tell_them_apart(tmp_path: Path) -> None:
    names = [
        {"name": "ViT-B-32", "pretrained": "openai"},
        {"name": "ViT-B-32", "pretrained": "/some where/mine.v2.pt"},
        {"name": "ViT-B-32", "pretrained": "openai", "framing": "crop"},
        {"name": "local-dir:/models/a b"},
    ]
    found = settings(tmp_path, backbone=names, strategies=("full",))
    assert [backbone_in(arm) for arm in found.arms] == [
        "ViT-B-32-openai-1",
        "ViT-B-32-mine.v2",
        "ViT-B-32-openai-2",
        "a-b",
    ]
    assert [found.backbone_of(arm) for arm in found.arms] == list(found.backbones)
    clash = [{"name": "local-dir:/a/x"}, {"name": "local-dir:/b/x"}, {"name": "local-dir:/c/x-1"}]
    arms = settings(tmp_path, backbone=clash, strategies=("full",)).arms
    assert [backbone_in(arm) for arm in arms] == ["1-x", "2-x", "3-x-1"]
