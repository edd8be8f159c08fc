"""What a picture varies: the pose of the hand, what is worn, the light, the background and the camera."""

from dataclasses import dataclass

import numpy as np

from handclip_core.data.drawn.anatomy import Person
from handclip_core.data.drawn.seeds import F64, stream

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
        """Whether the 11k table would mark the picture."""
        return bool(self.rings or self.watch or self.bracelet)

    def colour(self, kind: str) -> F64:
        """Linear colour [3] by the name of a metal, cloth or polish."""
        rgb = (_METALS | _CLOTHS | {f"polish {name}": value for name, value in _POLISHES.items()})[kind]
        linear: F64 = (np.asarray(rgb, np.float64) / 255) ** 2
        return linear


@dataclass(frozen=True, eq=False)
class Pose:
    """Place of the hand and of its fingers.

    ``matrix`` [2, 2] and ``offset`` [2] take the hand's frame to shares of the picture's height (column, row);
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
    """Direction [3] towards the light in the picture, its colour [3], and how much of it comes from everywhere."""

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
    """What the person wears in a picture (cheap: nothing is drawn)."""
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


def pose(rng: np.random.Generator, person: Person, aspect: str, *, ratio: float) -> Pose:
    """A pose of the hand in a picture ``ratio`` times as wide as high.

    With the fingers up, the thumb of a left hand's back and of a right hand's palm is on the viewer's right.
    """
    thumb_right = aspect in ("dorsal left", "palmar right")
    up = bool(rng.random() < 0.7)
    scale = float(np.clip(rng.normal(0.74, 0.06), 0.56, 0.9)) * person.size
    turn = float(np.clip(rng.normal(0, 13), -38, 38)) + (0 if up else 180)
    angle = np.deg2rad(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilt = np.eye(2) + rng.normal(0, 0.025, (2, 2))
    mirror = np.diag([1.0 if thumb_right else -1.0, -1.0])
    matrix = scale * rotation @ tilt @ mirror
    centre = np.array([ratio / 2 + rng.normal(0, 0.07), 0.5 + rng.normal(0, 0.045)])
    fan = rng.normal(0, 0.05) + np.array([0.0, 0.07, 0.01, -0.05, -0.11]) * rng.uniform(-0.6, 1.6)
    spread = fan + rng.normal(0, 0.018, 5)
    spread[0] = np.clip(rng.normal(0.0, 0.13), -0.22, 0.3)
    shorten = 1 - np.abs(rng.normal(0, 0.025, (5, 3))) * (0.6, 1.0, 1.3)
    bend = rng.normal(0, 0.022, (5, 2)) + np.array([[rng.normal(0.03, 0.08), rng.normal(0, 0.10)]] + [[0.0, 0.0]] * 4)
    return Pose(matrix, centre - matrix @ np.array([0.03, 0.46]), spread, bend, shorten, up)


def light(rng: np.random.Generator) -> Light:
    """A soft room light, sometimes a harder lamp or a flash."""
    azimuth, height = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(32, 80))
    direction = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    warm, green = rng.normal(0, 0.05), rng.normal(0, 0.015)
    return Light(
        direction, np.array([1 + warm, 1 + green, 1 - 1.2 * warm]), float(rng.uniform(0.3, 0.6)),
        float(rng.uniform(0.08, 0.5)), float(rng.uniform(0.008, 0.05)), float(rng.uniform(0.005, 0.05)),
    )  # fmt: skip


def camera(rng: np.random.Generator) -> Camera:
    """Background, exposure and the small faults of a real camera."""
    background = np.concatenate([[rng.uniform(0.62, 0.98)], rng.normal(0, 0.05, 2), rng.normal(0, 0.03, 3)])
    moving = rng.random() < 0.3
    way, far = rng.uniform(0, np.pi), (rng.uniform(0.004, 0.016) if moving else 0.0)
    return Camera(
        background=background,
        cast=1 + rng.normal(0, 0.015, 3) + np.array([0.5, 0.0, -0.7]) * rng.normal(0, 0.03),
        exposure=float(np.exp(rng.normal(0, 0.1))),
        blur=float(rng.uniform(0.0, 0.0035)),
        motion=np.array([np.cos(way), np.sin(way)]) * far,
        noise=float(rng.uniform(0.002, 0.014)),
        contrast=float(rng.uniform(-0.05, 0.35)),
        vignette=float(rng.uniform(0.0, 0.3)),
    )
