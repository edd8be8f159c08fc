"""What an image varies: the pose of the hand, what is worn, the light, the background and the camera."""

from dataclasses import dataclass

import numpy as np

from handclip_core.drawn.anatomy import Person
from handclip_core.drawn.seeds import F64, stream

_METALS = {"gold": (212, 170, 92), "silver": (190, 190, 194), "rose gold": (206, 150, 128)}
_CLOTHS = {
    "black": (38, 38, 42), "grey": (120, 122, 126), "white": (225, 224, 222), "navy": (44, 54, 88),
    "blue": (72, 104, 158), "red": (150, 44, 48), "green": (62, 94, 74), "brown": (104, 78, 60),
    "pink": (206, 146, 156), "beige": (196, 178, 150),
}  # fmt: skip
_POLISHES = {
    "red": (176, 28, 44), "dark red": (96, 20, 36), "pink": (226, 130, 152), "black": (30, 28, 32),
    "blue": (52, 84, 160), "white": (236, 232, 228), "purple": (112, 60, 130), "clear": (232, 184, 172),
}  # fmt: skip


@dataclass(frozen=True)
class Ring:
    """A ring: number of the finger, share of its length, half width in hand lengths, with or without a stone."""

    finger: int
    share: float
    half_width: float
    metal: str
    stone: bool


@dataclass(frozen=True)
class Outfit:
    """What is worn. Rings, a watch and a bracelet are accessories; a sleeve and nail polish are not."""

    rings: tuple[Ring, ...] = ()
    watch: str | None = None
    bracelet: str | None = None
    sleeve: str | None = None
    sleeve_y: float = -0.3
    polish: str | None = None

    @property
    def accessories(self) -> bool:
        """Whether the 11k table would mark the image."""
        return bool(self.rings or self.watch or self.bracelet)

    def colour(self, kind: str) -> F64:
        """Linear colour [3] by the name of a metal, cloth or polish."""
        rgb = (_METALS | _CLOTHS | {f"polish {name}": value for name, value in _POLISHES.items()})[kind]
        linear: F64 = (np.asarray(rgb, np.float64) / 255) ** 2
        return linear


@dataclass(frozen=True, eq=False)
class Pose:
    """Place of the hand and of its fingers.

    ``matrix`` [2, 2] and ``offset`` [2] take the hand's frame to shares of the image's height (column, row);
    ``spread`` [5] are angles in radians, ``bend`` [5, 2] more at the joints, ``shorten`` [5, 3] factors of the bones.
    """

    matrix: F64
    offset: F64
    spread: F64
    bend: F64
    shorten: F64
    fingers_up: bool


@dataclass(frozen=True, eq=False)
class Light:
    """Direction [3] towards the light in the image, its colour [3], and how much of it comes from everywhere."""

    direction: F64
    colour: F64
    ambient: float
    shadow: float
    shadow_blur: float
    shadow_reach: float


@dataclass(frozen=True, eq=False)
class Camera:
    """Background polynomial [6], cast [3], exposure, blur and motion in shares of the height, noise, contrast."""

    background: F64
    cast: F64
    exposure: float
    blur: float
    motion: F64
    noise: float
    contrast: float
    vignette: float


def outfit(person: Person, aspect: str, shot: int) -> Outfit:
    """What the person wears in an image (cheap: nothing is drawn)."""
    rng = stream("outfit", person.population, person.seed, person.index, aspect, shot)
    rings: tuple[Ring, ...] = ()
    watch = bracelet = None
    if rng.random() < person.ring_habit:
        kind = rng.random()
        if kind < 0.65:
            chosen = rng.choice(
                np.arange(1, 5), size=1 + int(rng.random() < 0.3), replace=False, p=(0.2, 0.25, 0.45, 0.1)
            )
            rings = tuple(
                Ring(
                    int(f),
                    float(rng.uniform(0.27, 0.33)),
                    float(rng.uniform(0.008, 0.018)),
                    _name(rng, _METALS),
                    bool(rng.random() < 0.3),
                )
                for f in chosen
            )
        if 0.55 < kind < 0.82:
            watch = _name(rng, {"black": 0, "brown": 0, "silver": 0, "gold": 0, "white": 0})
        elif kind >= 0.82:
            bracelet = _name(rng, {"gold": 0, "silver": 0, "black": 0, "red": 0, "brown": 0})
    sleeve = _name(rng, _CLOTHS) if rng.random() < 0.4 else None
    low = -0.16 if watch or bracelet else -0.03
    polish = _name(rng, _POLISHES) if rng.random() < person.polish_habit else None
    return Outfit(rings, watch, bracelet, sleeve, float(rng.uniform(low - 0.25, low)), polish)


def _name(rng: np.random.Generator, names: dict[str, tuple[int, int, int]] | dict[str, int]) -> str:
    return list(names)[int(rng.integers(len(names)))]


@dataclass(frozen=True)
class Drift:
    """Values of one image: a part that the person's sitting keeps for an aspect, and a change from shot to shot."""

    sitting: np.random.Generator
    shot: np.random.Generator

    def normal(self, sitting: float, shot: float, *shape: int) -> F64:
        """Normal values of mean 0 with the two standard deviations."""
        kept, changed = self.sitting.standard_normal(shape), self.shot.standard_normal(shape)
        values: F64 = np.asarray(sitting * kept + shot * changed)
        return values

    def between(self, low: float, high: float, wander: float = 0.15) -> float:
        """A value of the range that wanders by the share ``wander`` of it from shot to shot."""
        share = self.sitting.random() + wander * self.shot.standard_normal()
        return low + (high - low) * float(np.clip(share, 0, 1))


def drift(person: Person, aspect: str, shot: int, *, sitting: int = 0) -> Drift:
    """The drift of one image, taken in one of the aspect's sittings."""
    key = (person.population, person.seed, person.index, aspect)
    return Drift(stream("sitting", *key, *([sitting] if sitting else [])), stream("shot", *key, shot))


def pose(drift: Drift, person: Person, aspect: str, *, ratio: float) -> Pose:
    """A pose of the hand in an image ``ratio`` times as wide as high.

    With the fingers up, the thumb of a left hand's back and of a right hand's palm is on the viewer's right.
    """
    thumb_right = aspect in ("dorsal left", "palmar right")
    up = bool((drift.sitting.random() < 0.7) ^ (drift.shot.random() < 0.05))
    scale = float(np.clip(0.75 + drift.normal(0.03, 0.03), 0.58, 0.88)) * person.size
    angle = np.deg2rad(float(np.clip(drift.normal(5.0, 7.0), -32, 32)) + (0 if up else 180))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilt = np.eye(2) + drift.normal(0.01, 0.012, 2, 2)
    mirror = np.diag([1.0 if thumb_right else -1.0, -1.0])
    matrix = scale * rotation @ tilt @ mirror
    centre = np.array([ratio / 2, 0.5]) + drift.normal(0.02, 0.03, 2) * (1.4, 1.0)
    open_by = drift.between(-0.5, 1.5, 0.3)
    fan = drift.normal(0.015, 0.03) + np.array([0.0, 0.07, 0.01, -0.05, -0.11]) * open_by
    spread = fan + drift.normal(0.008, 0.018, 5)
    spread[0] = np.clip(drift.normal(0.06, 0.09), -0.22, 0.3)
    shorten = 1 - np.abs(drift.normal(0.01, 0.02, 5, 3)) * (0.6, 1.0, 1.3)
    bend = drift.normal(0.008, 0.016, 5, 2)
    bend[0] += drift.normal(0.05, 0.06, 2)
    return Pose(matrix, centre - matrix @ np.array([0.03, 0.46]), spread, bend, shorten, up)


def light(drift: Drift) -> Light:
    """A soft room light, sometimes a harder lamp or a flash."""
    azimuth = 2 * np.pi * drift.between(0, 1, 0.12)
    height = np.deg2rad(drift.between(38, 82, 0.08))
    direction = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    warm, green = float(drift.normal(0.016, 0.016)), float(drift.normal(0.005, 0.005))
    return Light(
        direction, np.array([1 + warm, 1 + green, 1 - 1.2 * warm]), drift.between(0.32, 0.62, 0.3),
        drift.between(0.08, 0.5), drift.between(0.008, 0.05), drift.between(0.005, 0.05),
    )  # fmt: skip


def camera(drift: Drift) -> Camera:
    """Background, exposure and the small faults of a real camera."""
    slopes = np.concatenate([drift.normal(0.03, 0.015, 2), drift.normal(0.02, 0.01, 3)])
    moving = drift.shot.random() < 0.25
    way, far = drift.shot.uniform(0, np.pi), (drift.shot.uniform(0.004, 0.016) if moving else 0.0)
    return Camera(
        background=np.array([drift.between(0.68, 0.97), *slopes]),
        cast=1 + drift.normal(0.007, 0.003, 3) + np.array([0.5, 0.0, -0.7]) * drift.normal(0.014, 0.006),
        exposure=float(np.exp(drift.normal(0.05, 0.06))),
        blur=drift.between(0.0, 0.0035, 0.3),
        motion=np.array([np.cos(way), np.sin(way)]) * far,
        noise=drift.between(0.001, 0.010),
        contrast=drift.between(-0.05, 0.35),
        vignette=drift.between(0.0, 0.3),
    )
