import numpy as np
import torch

from handclip_core.drawn import draw_arrays
from handclip_core.models.backbone import BackboneSettings, load_backbone
from handclip_core.pretraining.pairs import Drawings, Pairs, captioned_pairs


def numbered(people: int, shots: int) -> Pairs:
    """Images and texts whose values say which identity, aspect and shot they are of, and which kind of text."""
    place = torch.arange(people * 4 * shots).view(people, 4, shots, 1)
    name = torch.arange(people * 4).view(people, 4, 1) * shots
    images = place.view(people, 4, shots, 1, 1, 1).expand(-1, -1, -1, 3, 2, 2)
    kinds = [torch.full_like(place, kind) for kind in (0, 1)]
    return Pairs(
        images=images,
        captions=torch.cat([place, kinds[0]], dim=-1),
        named=torch.cat([place, kinds[1]], dim=-1),
        names=torch.cat([name, torch.full_like(name, 2)], dim=-1),
        prompts=torch.arange(4)[:, None],
    )


def test_texts_belong_to_their_images_and_every_hand_has_two_images_of_its_own() -> None:
    pairs = numbered(people=16, shots=3)
    people_a_batch, kinds = set(), set()
    for step in range(60):
        batch = pairs.batch(32, name_share=0.5, generator=torch.Generator().manual_seed(step))
        shown = batch.images[:, 0, 0, 0]
        assert len(set(shown.tolist())) == 32
        assert torch.equal(batch.aspects, shown // 3 % 4)
        assert torch.equal(batch.texts[:, 0] // 3, shown // 3)
        assert torch.equal(batch.hands[:, None] == batch.hands, (shown // 3)[:, None] == shown // 3)
        assert batch.hands.bincount().tolist() == [2] * 16
        assert batch.aspects.bincount().tolist() == [8] * 4, "batch norm would subtract what most images share"
        people_a_batch.add(len(set((shown // 12).tolist())))
        batch_kinds = set(batch.texts[:, 1].tolist())
        assert batch_kinds == {2} or batch_kinds <= {0, 1}
        if batch_kinds != {2}:
            assert torch.equal(batch.texts[:, 0], shown)
        kinds |= batch_kinds
    assert kinds == {0, 1, 2}
    assert people_a_batch == {4, 16}


def test_drawn_pairs_hold_the_images_and_tell_people_apart_by_name() -> None:
    backbone = load_backbone(BackboneSettings(pretrained="random"), text=True)
    pairs = captioned_pairs(Drawings(people=3, images_per_aspect=2, seed=4, height_px=32, workers=1), backbone)
    assert pairs.images.shape == (3, 4, 2, 3, 32, 32)
    drawn = draw_arrays(
        population="pretrain", seed=4, people=3, images_per_aspect=2, height_px=32, workers=1, captions=True
    )
    assert torch.equal(pairs.captions[2, 1, 1], backbone.tokenize([drawn.captions[2 * 8 + 1 * 2 + 1]])[0])
    brightness = drawn.pixels.reshape(3, 4, 2, -1).mean(axis=-1)
    np.testing.assert_allclose(pairs.images.float().mean(dim=(3, 4, 5)).numpy(), brightness, atol=1.5)
    names = {tuple(pairs.names[person, aspect].tolist()) for person in range(3) for aspect in range(4)}
    assert len(names) == 12
    assert torch.equal(pairs.prompts[2], backbone.tokenize(["a photo of a right palm"])[0])
    longer = (pairs.named != 0).sum(dim=-1) - (pairs.captions != 0).sum(dim=-1)
    assert set(longer.flatten().tolist()) == {2}
