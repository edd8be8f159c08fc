import pytest
import torch
from torch import Tensor, nn

from handclip_core.models.backbone import BackboneSettings, load_backbone
from handclip_core.models.neck import EmbeddingAt, NeckInput, NeckKind, NeckSettings
from handclip_core.models.prompted import PartedOutput, PromptedModel
from handclip_core.models.prompts import Prompts
from handclip_core.types import Batch

NUM_CLASSES = 5
TOWERS = ("vit", "resnet")
TWO_NECKS = NeckSettings(kind=NeckKind.BN, source=NeckInput.BOTH, embedding=EmbeddingAt.BEFORE)


def model_of(settings: BackboneSettings, neck: NeckSettings = TWO_NECKS) -> PromptedModel:
    torch.manual_seed(1)
    backbone = load_backbone(settings, text=True)
    prompts = Prompts(backbone.release_text(), template="A {} hand.", num_tokens=2, num_classes=NUM_CLASSES)
    built = neck.build(backbone)
    return PromptedModel(backbone, built, prompts, num_classes=NUM_CLASSES)


def batch() -> Batch:
    pixels = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 0, 1, 2, 3, 4])
    return Batch(pixels, labels=labels, rows=torch.arange(6), aspects=torch.zeros_like(labels))


def output_of(model: PromptedModel) -> PartedOutput:
    found = model(batch())
    assert isinstance(found, PartedOutput)
    return found


def weights_of(head: nn.Module) -> list[Tensor]:
    return list(head.parameters())


@pytest.mark.parametrize("tower", TOWERS)
def test_each_vector_has_a_batch_norm_and_a_head_of_its_own(
    tower: str, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    model = model_of(tiny_backbones[tower])
    model.prompts.requires_grad_(False)
    found = output_of(model.train())
    vectors = {"projected": found.encoded.projected, "trunk": found.encoded.features}
    assert [part.name for part in model.parts] == list(vectors)
    for part, head, vector in zip(found.parts, weights_of(model.head), vectors.values(), strict=True):
        norm = nn.BatchNorm1d(vector.shape[1]).train()
        torch.testing.assert_close(part.embedding, vector)
        torch.testing.assert_close(part.logits, norm(vector) @ head.T)
    torch.testing.assert_close(found.logits, (found.parts[0].logits + found.parts[1].logits) / 2)


@pytest.mark.parametrize("tower", TOWERS)
def test_the_embedding_is_both_vectors_before_their_norms_side_by_side(
    tower: str, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    model = model_of(tiny_backbones[tower]).eval()
    images = batch()
    assert isinstance(images.inputs, Tensor)
    encoded = load_backbone(tiny_backbones[tower])(images.inputs)
    expected = torch.cat([encoded.projected, encoded.features], dim=1)
    torch.testing.assert_close(model.embed(images.inputs, images.aspects), expected)
    assert model.width == expected.shape[1]


@pytest.mark.parametrize(("learning", "moves"), [(True, False), (False, True)])
def test_statistics_of_the_necks_rest_while_the_prompts_learn(
    learning: bool, moves: bool, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    model = model_of(tiny_backbones["vit"])
    model.prompts.requires_grad_(learning)
    before = {name: value.clone() for name, value in model.neck.state_dict().items()}
    output_of(model.train())
    assert any(not torch.equal(before[name], value) for name, value in model.neck.state_dict().items()) == moves


@pytest.mark.parametrize(
    "neck",
    [
        NeckSettings(kind=NeckKind.BN, source=NeckInput.TRUNK),
        NeckSettings(kind=NeckKind.LINEAR, source=NeckInput.BOTH),
        NeckSettings(kind=NeckKind.PROJECTION, dim=7, source=NeckInput.BOTH, embedding=EmbeddingAt.BEFORE),
    ],
    ids=["one vector", "mixed", "mixed into fewer"],
)
def test_a_neck_that_reads_one_vector_or_mixes_both_has_one_part(
    neck: NeckSettings, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    model = model_of(tiny_backbones["vit"], neck)
    found = output_of(model.eval())
    (part,), (only,) = found.parts, model.parts
    assert torch.equal(part.embedding, found.embedding)
    assert torch.equal(part.logits, found.logits)
    assert part.embedding.shape == (6, only.width) == (6, model.width)
    assert part.logits.shape == (6, NUM_CLASSES)


def test_texts_are_those_of_the_batch_while_learning_and_of_all_classes_after(
    tiny_backbones: dict[str, BackboneSettings],
) -> None:
    model = model_of(tiny_backbones["vit"])
    texts = output_of(model).texts
    assert texts is not None
    assert texts.labels.tolist() == batch().labels.tolist()
    model.requires_grad_(False)
    texts = output_of(model).texts
    assert texts is not None
    assert texts.labels.tolist() == list(range(NUM_CLASSES))
