from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models import prompts
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone
from handclip_core.models.prompts import Prompts
from handclip_core.types import Texts

TEMPLATE = "A photo of a {} hand."
WORDS = ("left", "right", "small", "old", "pale")


@dataclass(frozen=True)
class Case:
    """Prompts whose learned tokens are the words of WORDS, one class each, and a backbone that kept its text tower."""

    backbone: Backbone
    prompts: Prompts


@pytest.fixture
def case(tiny_backbones: dict[str, BackboneSettings]) -> Case:
    backbone, other = (load_backbone(tiny_backbones["vit"], text=True) for _ in range(2))
    tower = other.release_text()
    learned = Prompts(tower, template=TEMPLATE, num_tokens=2, num_classes=len(WORDS))
    vectors = [tower.embed_words(word)[1:-1].expand(2, -1) for word in WORDS]
    learned.tokens.data.copy_(torch.stack(vectors))
    return Case(backbone, learned)


def written(case: Case) -> Tensor:
    """What the backbone makes of the same sentences, written out."""
    texts = [TEMPLATE.format(f"{word} {word}") for word in WORDS]
    return case.backbone.encode_text(case.backbone.tokenize(texts))


def texts(learned: Prompts, labels: list[int]) -> Tensor:
    found: Texts = learned(torch.tensor(labels))
    return found.embedding


def test_learned_tokens_that_are_words_read_exactly_as_the_words(case: Case) -> None:
    assert torch.equal(case.prompts.encode(torch.arange(len(WORDS))), written(case))


def test_while_learning_each_image_has_its_text_and_gradients_reach_its_class_alone(case: Case) -> None:
    labels = [3, 1, 3]
    found = case.prompts(torch.tensor(labels))
    assert found.labels.tolist() == labels
    torch.testing.assert_close(found.embedding, written(case)[labels])
    found.embedding.square().sum().backward()
    gradient = case.prompts.tokens.grad
    assert gradient is not None
    assert [bool(part.any()) for part in gradient] == [False, True, False, True, False]


@pytest.mark.parametrize("at_a_time", [2, 64])
def test_once_frozen_all_texts_are_there_whatever_the_batch(
    case: Case, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "CLASSES_A_PASS", at_a_time)
    case.prompts.requires_grad_(False)
    found = case.prompts(torch.tensor([4, 4]))
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert not found.embedding.requires_grad
    torch.testing.assert_close(found.embedding, written(case))


def test_frozen_texts_are_read_once_and_again_when_other_tokens_are_loaded(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.prompts.requires_grad_(False)
    read: list[int] = []
    encode = case.prompts.encode

    def counted(classes: Tensor) -> Tensor:
        read.append(len(classes))
        return encode(classes)

    monkeypatch.setattr(case.prompts, "encode", counted)
    first = texts(case.prompts, [0])
    assert torch.equal(texts(case.prompts, [1]), first)
    assert read == [len(WORDS)]
    case.prompts.load_state_dict({"tokens": case.prompts.tokens.flip(0)})
    torch.testing.assert_close(texts(case.prompts, [0]), first.flip(0))


def test_learning_again_after_a_freeze_never_gives_old_texts(case: Case) -> None:
    case.prompts.requires_grad_(False)
    before = texts(case.prompts, [0])
    case.prompts.requires_grad_(True)
    optimizer = torch.optim.AdamW(case.prompts.parameters(), lr=0.1, foreach=True)
    texts(case.prompts, [0, 1, 2, 3, 4]).sum().backward()
    optimizer.step()
    case.prompts.requires_grad_(False)
    after = texts(case.prompts, [0])
    assert not torch.isclose(after, before).all(dim=1).any()


def test_the_text_tower_is_in_no_checkpoint_stays_frozen_and_never_trains(
    tiny_backbones: dict[str, BackboneSettings],
) -> None:
    backbone = load_backbone(tiny_backbones["vit"], text=True)
    text = backbone.text
    assert text is not None
    tower = backbone.release_text()
    model = nn.ModuleList([backbone, Prompts(tower, template=TEMPLATE, num_tokens=3, num_classes=2)]).train()
    assert [name for name, _ in model.named_parameters() if "visual" not in name] == ["1.tokens"]
    assert [name for name in model.state_dict() if "visual" not in name] == ["1.tokens"]
    assert not text.training
    assert not any(parameter.requires_grad for parameter in text.parameters())


def test_a_backbone_without_its_text_tower_still_encodes_images(tiny_backbones: dict[str, BackboneSettings]) -> None:
    whole, part = (load_backbone(tiny_backbones["vit"], text=True) for _ in range(2))
    part.release_text()
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(whole(pixels).projected, part(pixels).projected)
    assert part.key() == load_backbone(tiny_backbones["vit"]).key()


def test_the_temperature_is_that_of_the_backbone(tiny_backbones: dict[str, BackboneSettings]) -> None:
    backbone = load_backbone(tiny_backbones["vit"], text=True)
    assert backbone.logit_scale is not None
    backbone.logit_scale.data.fill_(torch.tensor(100.0).log())
    assert backbone.release_text().temperature == pytest.approx(0.01)


@pytest.mark.parametrize(("template", "num_tokens"), [(TEMPLATE, 9), ("A photo " + "of a " * 9 + "{} hand.", 1)])
def test_a_text_longer_than_the_tower_reads_is_refused(
    template: str, num_tokens: int, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    tower = load_backbone(tiny_backbones["vit"], text=True).release_text()
    with pytest.raises(InputError, match="longer than the text tower's 16; shorten template or num_tokens"):
        Prompts(tower, template=template, num_tokens=num_tokens, num_classes=2)


def test_the_longest_text_that_fits_is_read(tiny_backbones: dict[str, BackboneSettings]) -> None:
    tower = load_backbone(tiny_backbones["vit"], text=True).release_text()
    learned = Prompts(tower, template=TEMPLATE, num_tokens=8, num_classes=2)
    assert torch.isfinite(texts(learned, [0, 1])).all()


def test_a_text_tower_that_reads_its_answer_elsewhere_is_refused(tiny_backbones: dict[str, BackboneSettings]) -> None:
    backbone = load_backbone(tiny_backbones["vit"], text=True)
    assert backbone.text is not None
    backbone.text.pool_type = "last"  # type: ignore[assignment]
    with pytest.raises(InputError, match="does not read its answer off the end-of-text token"):
        backbone.release_text()
