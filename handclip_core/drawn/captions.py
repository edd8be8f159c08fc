"""Captions: a random choice of true statements about what an image shows, in varied wording."""

import numpy as np

from handclip_core.drawn.anatomy import FINGERS, Finger, Hand, Mole, Person
from handclip_core.drawn.lines import PALM
from handclip_core.drawn.render import Shot

_NUMBERS = ("no", "one", "two", "three", "four", "five")
_FACES = {
    "palmar": (
        "the palm of a {side} hand",
        "a {side} palm",
        "the palmar side of a {side} hand",
        "a {side} hand seen from the palm",
    ),
    "dorsal": (
        "the back of a {side} hand",
        "the dorsal side of a {side} hand",
        "a {side} hand seen from the back",
        "a {side} dorsal hand",
    ),
}
_STARTS = ("a photo of {}", "a photograph of {}", "{}", "a picture of {}", "a close-up of {}")
_SIDES, _SHORT = {"right": "R", "left": "L"}, {"palmar": "palm.", "dorsal": "dors."}
_TONES = ("{} skin", "a {} skin tone", "skin of {} tone")


def _level(value: float, low: float, high: float, words: tuple[str, str]) -> str | None:
    """The first word below ``low``, the second above ``high``, else nothing to say."""
    if value < low:
        return words[0]
    return words[1] if value > high else None


def _shape_facts(hand: Hand) -> list[str]:
    fingers = hand.fingers
    slender = float(np.mean([f.widths[3] / f.length for f in fingers[1:]]))
    stretch = float(np.mean([f.length for f in fingers[1:]]))
    reach = [float(f.base[1]) + f.length for f in fingers]
    gap = reach[1] - reach[3]
    facts = [
        _level(hand.width, 0.95, 1.05, ("a narrow palm", "a broad palm")),
        _level(slender, 0.092, 0.107, ("slender fingers", "thick fingers")),
        _level(stretch, 0.438, 0.468, ("short fingers", "long fingers")),
        _level(
            gap,
            -0.02,
            0.004,
            ("a ring finger longer than the index finger", "an index finger longer than the ring finger"),
        ),
        _level(fingers[4].length / fingers[3].length, 0.77, 0.825, ("a short little finger", "a long little finger")),
        _level(fingers[0].length, 0.515, 0.555, ("a short thumb", "a long thumb")),
        _level(float(np.mean([f.tip for f in fingers])), 0.95, 1.06, ("blunt fingertips", "pointed fingertips")),
    ]
    return [fact for fact in facts if fact is not None]


def _bent(fingers: tuple[Finger, ...]) -> list[str]:
    return [f"a crooked {FINGERS[k]}" for k in range(1, 5) if abs(float(fingers[k].bend[1])) > 0.07]


def _palm_facts(hand: Hand) -> list[str]:
    major = hand.palmar.main
    depth, fine = float(major.depth[:3].max(axis=1).mean()), int((hand.palmar.fine.finger == PALM).sum())
    facts = [
        _level(depth, 0.66, 0.84, ("faint palm creases", "deep palm creases")),
        _level(fine, 10, 18, ("a smooth palm with few lines", "a palm with many fine lines")),
    ]
    return [fact for fact in facts if fact is not None]


def _back_facts(person: Person, hand: Hand, shot: Shot) -> list[str]:
    folds = hand.dorsal.main.depth
    facts = [
        _level(person.skin.veins, 0.28, 0.65, ("no visible veins", "prominent veins")),
        _level(float(folds.max(axis=1).mean()), 0.68, 0.9, ("smooth knuckles", "wrinkled knuckles")),
        _level(person.skin.hair, -1.0, 0.35, ("", "dark hairs on the hand")),
    ]
    worn = shot.details.outfit
    if worn.polish is not None:
        facts.append("clear nail polish" if worn.polish == "clear" else f"{worn.polish} nail polish")
    else:
        nail = [f.nail for f in hand.fingers]
        facts.append(
            _level(
                float(np.mean([n.white for n in nail])),
                0.075,
                0.135,
                ("nails cut short", "long nails with white edges"),
            )
        )
        facts.append(
            _level(
                float(np.mean([n.half_length / n.half_width for n in nail])), 1.14, 1.25, ("wide nails", "narrow nails")
            )
        )
    return [fact for fact in facts if fact]


def _uncovered(mole: Mole, shot: Shot) -> bool:
    """Whether nothing worn can hide the mole."""
    if mole.finger == PALM:
        return mole.place[1] > 0
    return all(
        ring.finger != mole.finger or abs(ring.share - mole.place[0]) > 0.08 for ring in shot.details.outfit.rings
    )


def _mole_facts(moles: tuple[Mole, ...], shot: Shot, *, palmar: bool) -> list[str]:
    seen = [mole for mole in moles if mole.dark > 0.4 and mole.radius > 0.003 and _uncovered(mole, shot)]
    if not seen:
        return ["no moles"]
    count = _NUMBERS[len(seen)] if len(seen) < len(_NUMBERS) else "many"
    facts = [f"{count} {'mole' if len(seen) == 1 else 'moles'}"]
    largest = max(seen, key=lambda mole: mole.radius)
    if largest.finger != PALM:
        facts.append(f"a mole on the {FINGERS[largest.finger]}")
    else:
        face = "palm" if palmar else "back of the hand"
        x, y = largest.place
        where = "near the wrist" if y < 0.12 else "near the knuckles" if y > 0.33 else "in the middle"
        facts.append(
            f"a mole on the {face} {where}"
            + (", thumb side" if x > 0.05 else ", little finger side" if x < -0.08 else "")
        )
    return facts


def _worn_facts(shot: Shot) -> list[str]:
    worn = shot.details.outfit
    facts = [f"a {ring.metal} ring on the {FINGERS[ring.finger]}" for ring in worn.rings]
    parts = {
        "watch": f"a {worn.watch} wrist watch",
        "bracelet": f"a {worn.bracelet} bracelet",
        "sleeve": f"a {worn.sleeve} sleeve",
    }
    return facts + [fact for name, fact in parts.items() if name in shot.details.seen]


def _facts(person: Person, aspect: str, shot: Shot) -> list[str]:
    """All that is to be said of the hand itself."""
    face, side = aspect.split()
    hand = person.right if side == "right" else person.left
    body = _shape_facts(hand) + _bent(hand.fingers)
    body += _palm_facts(hand) if face == "palmar" else _back_facts(person, hand, shot)
    return body + _mole_facts(
        hand.palmar_moles if face == "palmar" else hand.dorsal_moles, shot, palmar=face == "palmar"
    )


def note(person: Person, aspect: str, shot: Shot, rng: np.random.Generator) -> str:
    """True statements in the terse style of a catalogue, for instance "R dors.; olive; prominent veins; no moles".

    handclip-nano has not read this style: a model that is to find images by it has to learn it.
    """
    face, side = aspect.split()
    body = _facts(person, aspect, shot)
    chosen = [body[int(k)] for k in rng.permutation(len(body))[: int(rng.integers(2, 6))]]
    return "; ".join([f"{_SIDES[side]} {_SHORT[face]}", person.skin.tone, *_worn_facts(shot), *chosen])


def caption(person: Person, aspect: str, shot: Shot, rng: np.random.Generator) -> str:
    """One sentence of true statements about ``shot`` (of ``person`` and ``aspect``); ``rng`` chooses and words them."""
    face, side = aspect.split()
    subject = str(rng.choice(_STARTS)).format(str(rng.choice(_FACES[face])).format(side=side))
    body = _facts(person, aspect, shot)
    chosen = [body[int(k)] for k in rng.permutation(len(body))[: int(rng.integers(2, 6))]]
    if rng.random() < 0.85:
        chosen.insert(0, str(rng.choice(_TONES)).format(person.skin.tone))
    chosen += [fact for fact in _worn_facts(shot) if rng.random() < 0.7]
    if rng.random() < 0.25:
        chosen.append("fingers pointing up" if shot.details.fingers_up else "fingers pointing down")
    joined = chosen[0] if len(chosen) == 1 else ", ".join(chosen[:-1]) + " and " + chosen[-1]
    return f"{subject} with {joined}"
