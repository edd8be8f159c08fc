"""What an identity fixes: two hands that share genes, their skin, lines, nails and moles."""

from dataclasses import dataclass

import numpy as np

from handclip_core.drawn.lines import Marks, dorsal_marks, palmar_marks
from handclip_core.drawn.seeds import F64, Genes, stream

FINGERS = ("thumb", "index finger", "middle finger", "ring finger", "little finger")
TONES = ("very fair", "fair", "medium", "dark")
"""Skin tones in the words of the 11k table."""

_TONE_CHANCE = (0.12, 0.42, 0.36, 0.10)
_TONE_RANGE = ((0.0, 0.18), (0.22, 0.46), (0.52, 0.74), (0.80, 1.0))
_TONE_STOPS = (0.0, 0.35, 0.6, 0.85, 1.0)
_TONE_RGB = ((238, 200, 183), (224, 178, 153), (189, 144, 117), (134, 97, 77), (92, 64, 52))

# x, y of the base joint in hand lengths (origin: middle of the wrist, y to the middle fingertip, x to the thumb),
# angle from y in degrees, length from that joint to the tip, half width at the middle joint.
_BASE = np.array(
    [
        (0.085, 0.085, 40.0, 0.535, 0.058),
        (0.125, 0.470, 7.0, 0.455, 0.0475),
        (0.022, 0.488, 1.0, 0.512, 0.0490),
        (-0.080, 0.465, -5.0, 0.470, 0.0455),
        (-0.168, 0.415, -13.0, 0.375, 0.0400),
    ]
)
_BONES = np.array(
    [(0.40, 0.335, 0.265), (0.475, 0.28, 0.245), (0.475, 0.29, 0.235), (0.47, 0.29, 0.24), (0.475, 0.26, 0.265)]
)
# Half width along the finger, relative to the middle joint: base, web, shaft, joint, shaft, joint, tip.
_PROFILE = np.array([1.12, 1.10, 0.98, 1.0, 0.91, 0.89, 0.74])
_THUMB_PROFILE = np.array([1.72, 1.50, 1.06, 1.0, 0.93, 1.02, 0.76])


@dataclass(frozen=True, eq=False)
class Nail:
    """One nail: half sizes in radii of the fingertip, outline's exponent (2 oval, 4 square), white edge's share."""

    half_length: float
    half_width: float
    square: float
    white: float


@dataclass(frozen=True, eq=False)
class Finger:
    """One finger: base joint [2], angle (radians, from y to the thumb), bones [3], half widths [7] at shares [7]."""

    base: F64
    angle: float
    bones: F64
    widths: F64
    shares: F64
    bend: F64
    tip: float
    nail: Nail

    @property
    def length(self) -> float:
        """From the base joint to the tip, in hand lengths."""
        return float(self.bones.sum())


@dataclass(frozen=True, eq=False)
class Mole:
    """A mole at (x, y) of the hand or (share, radii) of a finger; radius in hand lengths, darkness from 0 to 1."""

    finger: int
    place: tuple[float, float]
    radius: float
    dark: float


@dataclass(frozen=True, eq=False)
class Hand:
    """One hand in its own frame: origin at the wrist, x towards the thumb, y towards the fingers, unit hand length."""

    width: float
    wrist: float
    thickness: float
    fingers: tuple[Finger, ...]
    palmar: Marks
    dorsal: Marks
    palmar_moles: tuple[Mole, ...]
    dorsal_moles: tuple[Mole, ...]
    mounds: F64


@dataclass(frozen=True, eq=False)
class Skin:
    """Skin of a person: linear colours [3] of both sides and strengths from 0 to about 1."""

    tone: str
    dorsal_rgb: F64
    palmar_rgb: F64
    nail_rgb: F64
    redness: float
    mottle: float
    veins: float
    hair: float
    gloss: float


@dataclass(frozen=True, eq=False)
class Person:
    """Everything that an identity fixes."""

    population: str
    seed: int
    index: int
    age: int
    gender: str
    size: float
    skin: Skin
    right: Hand
    left: Hand
    ring_habit: float
    polish_habit: float
    irregular: bool


def linear(rgb: tuple[float, ...] | F64) -> F64:
    """Linear light of 8-bit colours (gamma 2, cheap and near enough)."""
    values: F64 = (np.asarray(rgb, np.float64) / 255) ** 2
    return values


def _skin(rng: np.random.Generator, age: int, gender: str) -> Skin:
    kind = int(rng.choice(4, p=_TONE_CHANCE))
    tone = float(rng.uniform(*_TONE_RANGE[kind]))

    def colour(at: float) -> F64:
        return np.array([np.interp(at, _TONE_STOPS, [stop[c] for stop in _TONE_RGB]) for c in range(3)])

    warm, pink = rng.normal(0, 1, 2)
    tint = np.array([1 + 0.008 * pink, 1 - 0.014 * pink, 1 - 0.03 * warm])
    palm = (0.75 * colour(tone * 0.58) + 0.25 * colour(tone)) * (1.0, 0.975, 0.965)
    visible = (0.35 + age / 90 + (0.2 if gender == "male" else 0)) * (1 - 0.6 * tone)
    return Skin(
        tone=TONES[kind],
        dorsal_rgb=linear(colour(tone) * tint),
        palmar_rgb=linear(palm * tint),
        nail_rgb=linear((0.62 * colour(tone * 0.8) + 0.38 * np.array([232, 176, 164])) * tint),
        redness=float(rng.uniform(0.3, 1.0)),
        mottle=float(rng.uniform(0.25, 1.0)),
        veins=float(np.clip(visible * rng.lognormal(0, 0.5), 0.05, 1.5)),
        hair=float(rng.beta(1.5, 3) if gender == "male" else 0.08 * rng.random()),
        gloss=float(rng.uniform(0.3, 1.0)),
    )


def _finger(genes: Genes, number: int, slender: float, stretch: float, width: float) -> Finger:
    x, y, degrees, length, half = _BASE[number]
    length *= stretch * float(genes.scale(0.035))
    half *= slender * float(genes.scale(0.035))
    bones = _BONES[number] * genes.scale(0.04, 3)
    bones *= length / bones.sum()
    profile = (_THUMB_PROFILE if number == 0 else _PROFILE) * genes.scale(0.035, 7)
    first, second = bones[0] / length, (bones[0] + bones[1]) / length
    shares = np.array([0.0, 0.2, (0.2 + first) / 2 + 0.03, first, (first + second) / 2, second, 0.93])
    if number == 0:  # its first bone lies in the palm
        shares[1:5] = 0.3 * first, first, (first + second) / 2 - 0.02, second - 0.07
    nail = Nail(
        half_length=0.88 * float(genes.scale(0.12)),
        half_width=0.74 * float(np.clip(genes.scale(0.06), 0.85, 1.15)),
        square=float(np.clip(2.9 + genes.normal(0.6), 2.0, 4.5)),
        white=float(np.clip(0.10 + genes.normal(0.09), 0.02, 0.4)),
    )
    base = np.array([x * width, y]) + genes.normal(0.008, 2)
    bend = genes.normal(0.035, 2) + ((0.0, 0.0) if number == 0 else (0.015 * np.sign(degrees - 2) * -1, 0.0))
    return Finger(
        base, float(np.deg2rad(degrees) + genes.normal(0.025)), bones, half * profile, shares, bend,
        float(np.clip(genes.scale(0.14), 0.75, 1.4)), nail,
    )  # fmt: skip


def _moles(rng: np.random.Generator, mean: float) -> tuple[Mole, ...]:
    moles = []
    for _ in range(int(rng.poisson(mean))):
        finger = int(rng.integers(0, 5)) if rng.random() < 0.4 else -1
        place = (
            rng.uniform((0.45 if finger == 0 else 0.22, -0.6), (0.78, 0.6))
            if finger >= 0
            else rng.uniform((-0.16, -0.1), (0.14, 0.44))
        )
        radius = float(0.004 * rng.lognormal(0, 0.45))
        moles.append(Mole(finger, (float(place[0]), float(place[1])), radius, float(rng.uniform(0.3, 1.0))))
    return tuple(moles)


def _hand(key: tuple[str | int, ...], side: str, *, age: int, gender: str, moley: float) -> Hand:
    genes = Genes(stream(*key, "genes"), stream(*key, side))
    broad = float(genes.scale(0.055)) * (1.02 if gender == "male" else 0.97)
    slender = float(genes.scale(0.07)) * (1.04 if gender == "male" else 0.94) * (0.7 + 0.3 * broad)
    stretch = float(genes.scale(0.035))
    fingers = tuple(_finger(genes, number, slender, stretch, broad) for number in range(5))
    joints = np.array([np.cumsum(f.bones)[:2] / f.length for f in fingers])
    # A thumb's first bone lies in the palm: its folds sit at the second joint, its creases at both.
    folds = np.array([(joints[0, 1], joints[0, 1] + 0.02), *joints[1:]])
    knuckles = np.array([f.base for f in fingers])
    return Hand(
        width=broad,
        wrist=broad * float(genes.scale(0.05)) * (0.7 + 0.3 * slender),
        thickness=float(genes.scale(0.08)),
        fingers=fingers,
        palmar=palmar_marks(genes, joints),
        dorsal=dorsal_marks(genes, folds, knuckles, age=age),
        palmar_moles=_moles(genes.own, 0.5 * moley),
        dorsal_moles=_moles(genes.own, 2.2 * moley),
        mounds=genes.scale(0.25, 8),
    )


def person(population: str, seed: int, index: int) -> Person:
    """The person number ``index`` of a population; other populations and seeds hold other people."""
    key = ("person", population, seed, index)
    rng = stream(*key, "body")
    gender = "female" if rng.random() < 0.6 else "male"
    age = int(np.clip(18 + rng.gamma(1.6, 6.0), 18, 75))
    skin = _skin(rng, age, gender)
    moley = float(rng.lognormal(0, 0.5))
    right, left = (_hand(key, side, age=age, gender=gender, moley=moley) for side in ("right", "left"))
    return Person(
        population, seed, index, age, gender,
        size=float(np.exp(rng.normal(0, 0.04)) * (1.03 if gender == "male" else 0.97)),
        skin=skin, right=right, left=left,
        ring_habit=float(0.45 if rng.random() < 0.3 else 0.06),
        polish_habit=float((0.6 if rng.random() < 0.25 else 0.03) if gender == "female" else 0.0),
        irregular=bool(rng.random() < 0.05),
    )  # fmt: skip
