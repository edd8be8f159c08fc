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
    )


def test_texts_belong_to_their_images_and_no_hand_comes_twice() -> None:
    pairs = numbered(people=12, shots=3)
    aspects_a_batch, kinds = set(), set()
    for step in range(60):
        images, texts = pairs.batch(12, name_share=0.5, generator=torch.Generator().manual_seed(step))
        shown = images[:, 0, 0, 0]
        hands = shown // 3
        assert len(set(hands.tolist())) == 12
        assert torch.equal(texts[:, 0] // 3, hands)
        aspects_a_batch.add(len(set((hands % 4).tolist())))
        batch_kinds = set(texts[:, 1].tolist())
        assert batch_kinds == {2} or batch_kinds <= {0, 1}
        if batch_kinds != {2}:
            assert torch.equal(texts[:, 0], shown)
        kinds |= batch_kinds
    assert kinds == {0, 1, 2}
    assert min(aspects_a_batch) == 1
    assert max(aspects_a_batch) > 2


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
    longer = (pairs.named != 0).sum(dim=-1) - (pairs.captions != 0).sum(dim=-1)
    assert set(longer.flatten().tolist()) == {2}
