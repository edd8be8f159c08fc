import numpy as np
import numpy.typing as npt
import pytest

from handclip_core.drawn import draw_image, fields, person
from handclip_core.drawn.pose import drift, outfit, pose
from handclip_core.drawn.shape import Frame, frame
from handclip_core.errors import InputError
from handclip_core.types import HAND_ASPECTS, Aspect

ImageFactory = npt.NDArray[np.float32]


def _view(population: str, index: int, aspect: str, shot: int, height_px: int) -> Frame:
    someone = person(population, 0, index)
    return frame(pose(drift(someone, aspect, shot), someone, aspect, ratio=4 / 3), height_px, round(height_px * 4 / 3))


def _skin_mask(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where red clearly exceeds blue: skin on a near-grey background."""
    wide = pixels.astype(np.int16)
    return wide[..., 0] - wide[..., 2] > 25


def test_the_same_arguments_give_the_same_bytes_and_others_do_not() -> None:
    def draw(index: int, aspect: Aspect, shot: int) -> bytes:
        return draw_image(person("default", 0, index), aspect, shot=shot, height_px=96).pixels.tobytes()

    first = draw(3, Aspect.PALMAR_LEFT, 2)
    draw(4, Aspect.DORSAL_LEFT, 0)
    assert draw(3, Aspect.PALMAR_LEFT, 2) == first
    others = {draw(3, Aspect.PALMAR_LEFT, 1), draw(3, Aspect.PALMAR_RIGHT, 2), draw(5, Aspect.PALMAR_LEFT, 2)}
    assert len(others) == 3
    assert first not in others


def test_populations_and_seeds_hold_different_people() -> None:
    def lines(population: str, seed: int) -> bytes:
        return person(population, seed, 0).right.palmar.main.points.tobytes()

    assert len({lines("default", 0), lines("pretrain", 0), lines("default", 1)}) == 3
    assert lines("default", 0) == lines("default", 0)


def test_the_real_size_is_that_of_11k_hands() -> None:
    pixels = draw_image(person("default", 0, 0), Aspect.DORSAL_RIGHT, shot=0, height_px=1200).pixels
    assert pixels.shape == (1200, 1600, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("aspect", HAND_ASPECTS)
def test_with_the_fingers_up_the_thumb_is_where_it_is_on_a_real_hand(aspect: Aspect) -> None:
    """Hold up your right hand: from the back its thumb points left, from the palm right. The left hand: reversed."""
    thumb_on_the_right = {
        Aspect.DORSAL_RIGHT: False, Aspect.PALMAR_RIGHT: True, Aspect.DORSAL_LEFT: True, Aspect.PALMAR_LEFT: False,
    }[aspect]  # fmt: skip
    checked = 0
    for index in range(8):
        shot = draw_image(person("thumbs", 0, index), aspect, shot=0, height_px=120)
        view = _view("thumbs", index, aspect, 0, 120)
        mask = _skin_mask(shot.pixels)
        rows, columns = np.nonzero(mask & (view.y > 0.15) & (view.y < 0.45))
        if not shot.details.fingers_up or len(rows) < 200:
            continue
        # Across the palm the thumb reaches further from the axis of the hand than the other edge does.
        axis = view.pixel(np.array([[0.0, 0.15], [0.0, 0.45]]))
        centre = axis[0, 0] + (rows - axis[0, 1]) / (axis[1, 1] - axis[0, 1]) * (axis[1, 0] - axis[0, 0])
        away = columns - centre
        assert (away.max() > -away.min()) == thumb_on_the_right
        checked += 1
    assert checked >= 3


def test_fingers_point_where_the_details_say() -> None:
    seen = set()
    for index in range(8):
        shot = draw_image(person("thumbs", 0, index), Aspect.PALMAR_RIGHT, shot=0, height_px=96)
        mask = _skin_mask(shot.pixels)
        arm_at_bottom = mask[-2].sum() > mask[1].sum()
        assert arm_at_bottom == shot.details.fingers_up
        seen.add(shot.details.fingers_up)
    assert seen == {True, False}


def test_left_is_no_mirror_image_of_right_but_closer_than_a_stranger() -> None:
    people = [person("default", 0, index) for index in range(12)]

    def proportions(index: int, side: str) -> npt.NDArray[np.float64]:
        hand = people[index].right if side == "right" else people[index].left
        creases = hand.palmar.main.points[:3].ravel()
        return np.concatenate([[f.length for f in hand.fingers], [f.widths[3] for f in hand.fingers], creases])

    own = [np.linalg.norm(proportions(i, "right") - proportions(i, "left")) for i in range(12)]
    other = [np.linalg.norm(proportions(i, "right") - proportions((i + 1) % 12, "left")) for i in range(12)]
    assert min(own) > 0.01
    assert np.mean(own) < 0.75 * np.mean(other)


def _palm_print(index: int, shot: int) -> ImageFactory:
    """The palm of an image without its tone: brightness in the frame of the hand, less its local mean."""
    pixels = draw_image(person("prints", 0, index), Aspect.PALMAR_LEFT, shot=shot, height_px=240).pixels
    view = _view("prints", index, Aspect.PALMAR_LEFT, shot, 240)
    y, x = np.meshgrid(np.linspace(0.12, 0.46, 48), np.linspace(-0.15, 0.14, 40), indexing="ij")
    places = np.round(view.pixel(np.stack([x, y], axis=-1))).astype(int)
    grey = pixels.mean(axis=2)[np.clip(places[..., 1], 0, 239), np.clip(places[..., 0], 0, 319)]
    around = np.pad(grey, 4, mode="edge")
    mean = np.mean([around[i : i + 48, j : j + 40] for i in range(9) for j in range(9)], axis=0)
    print_: ImageFactory = ((grey - mean) / (grey - mean).std()).astype(np.float32)
    return print_


def test_creases_tell_people_apart_without_tone_or_outline() -> None:
    people = 8
    gallery = np.stack([_palm_print(index, 0).ravel() for index in range(people)])
    query = np.stack([_palm_print(index, 1).ravel() for index in range(people)])
    likeness = query @ gallery.T / gallery.shape[1]
    assert (likeness.argmax(axis=1) == np.arange(people)).mean() >= 0.75


def test_accessories_are_known_before_drawing_and_change_the_image() -> None:
    someone = next(p for p in (person("default", 0, i) for i in range(40)) if p.ring_habit > 0.3)
    worn = [outfit(someone, "dorsal right", shot).accessories for shot in range(40)]
    assert 0.2 < np.mean(worn) < 0.75
    for shot in range(3):
        details = draw_image(someone, Aspect.DORSAL_RIGHT, shot=shot, height_px=64).details
        assert details.accessories == worn[shot]


def test_impossible_images_are_refused() -> None:
    with pytest.raises(InputError, match="unknown"):
        draw_image(person("default", 0, 0), Aspect.UNKNOWN, shot=0, height_px=96)
    with pytest.raises(InputError, match="height_px 8"):
        draw_image(person("default", 0, 0), Aspect.DORSAL_LEFT, shot=0, height_px=8)


@pytest.mark.parametrize("shot", range(6))
def test_strips_of_rows_leave_no_seam(shot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    someone, aspect = person("default", 0, shot), HAND_ASPECTS[shot % 4]
    monkeypatch.setattr(fields, "_STRIP", 1 << 30)
    whole = draw_image(someone, aspect, shot=shot, height_px=200).pixels
    monkeypatch.setattr(fields, "_STRIP", 1000)
    assert np.array_equal(draw_image(someone, aspect, shot=shot, height_px=200).pixels, whole)
