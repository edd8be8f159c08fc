import numpy as np
import pytest

from handclip_core.drawn import caption, draw_image, person
from handclip_core.types import HAND_ASPECTS, Aspect


def _texts(index: int, aspect: Aspect, count: int) -> list[str]:
    someone = person("words", 0, index)
    shot = draw_image(someone, aspect, shot=0, height_px=48)
    return [caption(someone, aspect, shot, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("aspect", HAND_ASPECTS)
def test_a_caption_names_the_side_that_is_seen(aspect: Aspect) -> None:
    face, side = aspect.split()
    other = "left" if side == "right" else "right"
    words = {"palmar": ("palm",), "dorsal": ("back", "dorsal")}
    for text in _texts(0, aspect, 30):
        subject = text.split(" with ")[0]
        assert f" {side} " in f" {subject} "
        assert other not in text
        assert any(word in subject for word in words[face])
        assert not any(word in subject for word in words["dorsal" if face == "palmar" else "palmar"])


def test_a_caption_tells_the_tone_and_compares_fingers_truly() -> None:
    for index in range(12):
        someone = person("words", 0, index)
        index_finger, ring_finger = someone.right.fingers[1], someone.right.fingers[3]
        gap = float(index_finger.base[1] + index_finger.length - ring_finger.base[1] - ring_finger.length)
        for text in _texts(index, Aspect.PALMAR_RIGHT, 10):
            for tone in ("very fair", "medium", "dark"):
                assert (f"{tone} skin" in text or f"{tone} tone" in text) <= (someone.skin.tone == tone)
            assert ("ring finger longer" in text) <= (gap < 0)
            assert ("index finger longer" in text) <= (gap > 0)


def test_nails_and_polish_are_told_only_where_nails_are_seen() -> None:
    polished = 0
    for index in range(30):
        someone = person("words", 0, index)
        for aspect in (Aspect.PALMAR_LEFT, Aspect.DORSAL_LEFT):
            shot = draw_image(someone, aspect, shot=0, height_px=32)
            for seed in range(6):
                text = caption(someone, aspect, shot, np.random.default_rng(seed))
                if "nail" in text:
                    assert aspect is Aspect.DORSAL_LEFT
                if "polish" in text:
                    assert shot.details.nail_polish
                    polished += 1
    assert polished > 0


def test_what_is_worn_is_told_only_when_it_is_worn() -> None:
    told = set()
    for index in range(25):
        someone = person("words", 0, index)
        for number in range(3):
            shot = draw_image(someone, Aspect.DORSAL_RIGHT, shot=number, height_px=32)
            worn = shot.details.outfit
            text = caption(someone, Aspect.DORSAL_RIGHT, shot, np.random.default_rng(number))
            for word, there in (("sleeve", worn.sleeve), ("watch", worn.watch), (" ring on", worn.rings)):
                if word in text:
                    assert there
                    told.add(word)
    assert told == {"sleeve", "watch", " ring on"}


def test_different_people_get_different_captions() -> None:
    texts = {text.split(" with ")[1] for index in range(20) for text in _texts(index, Aspect.DORSAL_LEFT, 2)}
    assert len(texts) >= 38
