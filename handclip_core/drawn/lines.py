"""Lines of the skin that an identity fixes: palm creases, finger creases, knuckle folds, veins, tendons."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from handclip_core.drawn.seeds import F32, F64, Genes

KNOTS = 20
"""Points of a line."""
PALM = -1
"""``Strokes.finger`` of a line that lies in the frame of the hand."""

_MAJOR = {
    "heart": ((-0.215, 0.375), (-0.12, 0.355), (0.0, 0.40), (0.075, 0.50)),
    "head": ((0.180, 0.365), (0.07, 0.37), (-0.05, 0.31), (-0.135, 0.22)),
    "life": ((0.182, 0.360), (0.07, 0.37), (0.0, 0.22), (0.04, 0.04)),
}


@dataclass(frozen=True, eq=False)
class Strokes:
    """Lines of one kind; C lines of KNOTS points.

    ``points`` [C, KNOTS, 2] are (x, y) of the hand's frame where ``finger`` [C] is PALM, else (share of the finger's
    length, offset in radii) on that finger; ``depth`` [C, KNOTS] runs from 0 (nothing) to about 1 (deep).
    """

    points: F32
    depth: F32
    finger: npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Marks:
    """All lines on one side of a hand."""

    main: Strokes
    fine: Strokes
    vein: Strokes
    ridge: Strokes


class _Pen:
    """Collects lines."""

    def __init__(self) -> None:
        self._points: list[F64] = []
        self._depth: list[F64] = []
        self._finger: list[int] = []

    def line(self, points: F64, depth: float, *, finger: int = PALM, taper: float = 0.25) -> None:
        """Add a line of [KNOTS, 2] points that fades over the share ``taper`` at both of its ends."""
        t = np.linspace(0, 1, KNOTS)
        ends = np.clip(np.minimum(t, 1 - t) / max(taper, 1e-3) + 0.15, 0, 1)
        self._points.append(points)
        self._depth.append(depth * ends)
        self._finger.append(finger)

    def strokes(self) -> Strokes:
        """Everything so far."""
        count = len(self._points)
        return Strokes(
            points=np.asarray(self._points, np.float32).reshape(count, KNOTS, 2),
            depth=np.asarray(self._depth, np.float32).reshape(count, KNOTS),
            finger=np.asarray(self._finger, np.int8),
        )


def _bezier(control: F64) -> F64:
    """Cubic curve through [4, 2] control points as [KNOTS, 2]."""
    t = np.linspace(0, 1, KNOTS)[:, None]
    basis = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    curve: F64 = basis @ control
    return curve


def _wobble(rng: np.random.Generator, amount: float) -> F64:
    """Smooth random offsets [KNOTS, 2]."""
    t = np.linspace(0, 1, KNOTS)[:, None, None]
    waves = np.arange(2, 6)
    phase = rng.uniform(0, 2 * np.pi, (1, 2, 4))
    offsets: F64 = (np.sin(2 * np.pi * t * waves / 2 + phase) / waves).sum(axis=2) * amount
    return offsets


def _major(pen: _Pen, genes: Genes) -> None:
    for name, control in _MAJOR.items():
        moved = np.asarray(control) + genes.normal(0.022, 4, 2)
        if name == "head":
            moved[0] += (0.0, abs(float(genes.normal(0.02))))
        depth = float(np.clip(0.8 * genes.scale(0.28), 0.4, 1.3))
        curve = _bezier(moved) + _wobble(genes.shared, 0.007) + _wobble(genes.own, 0.003)
        pen.line(curve, depth, taper=0.3)
        forked = genes.shared.random() < 0.5
        turn = genes.normal(0.4)
        if forked:
            start = int(genes.shared.integers(10, 15))
            pivot = curve[start]
            angle = float(np.copysign(0.25 + abs(turn), turn))
            rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            tail = np.linspace(curve[start], curve[-1], KNOTS)
            pen.line((tail - pivot) @ rotation.T * 0.7 + pivot, depth * 0.6, taper=0.4)


def _segment(centre: F64, angle: float, length: float, bow: float) -> F64:
    t = np.linspace(-0.5, 0.5, KNOTS)
    along = np.stack([np.cos(angle) * t, np.sin(angle) * t], axis=1) * length
    across = np.stack([-np.sin(angle) * (0.25 - t**2), np.cos(angle) * (0.25 - t**2)], axis=1) * bow * length
    points: F64 = centre + along + across
    return points


def _secondary(main: _Pen, fine: _Pen, genes: Genes) -> None:
    """Fate and sun lines, and the small lines that no two palms share."""
    for x, low, high, chance in ((-0.015, 0.08, 0.44, 0.55), (-0.09, 0.26, 0.45, 0.5)):
        there, weight = genes.shared.random() < chance, genes.shared.uniform(0.35, 0.75)
        control = np.array([(x, low), (x, low + 0.12), (x, high - 0.1), (x, high)]) + genes.normal(0.016, 4, 2)
        if there:
            main.line(_bezier(control) + _wobble(genes.shared, 0.006), float(weight))
    lined = int(genes.shared.integers(3, 14))
    for rng, count in ((genes.shared, lined), (genes.own, lined // 2 + 2)):
        for _ in range(count):
            centre = rng.uniform((-0.17, 0.10), (0.15, 0.47))
            angle = rng.normal(1.4, 0.5) if rng.random() < 0.6 else rng.uniform(0, np.pi)
            points = _segment(centre, float(angle), float(rng.uniform(0.05, 0.16)), float(rng.normal(0, 0.4)))
            fine.line(points + _wobble(rng, 0.003), float(rng.uniform(0.25, 0.9)))


def _across(u: float, arc: float, slant: float, half: float = 0.92) -> F64:
    """A line across a finger at the share ``u`` of its length."""
    v = np.linspace(-half, half, KNOTS)
    points: F64 = np.stack([u + arc * (1 - v**2) + slant * v, v], axis=1)
    return points


def palmar_marks(genes: Genes, joints: F64) -> Marks:
    """Creases of the palm and of the fingers; ``joints`` [5, 2] are shares of the fingers' lengths."""
    main, fine, vein = _Pen(), _Pen(), _Pen()
    _major(main, genes)
    _secondary(main, fine, genes)
    for finger in range(5):
        web = 0.5 if finger == 0 else 0.205
        places = ((web, 0.9, 2), (float(joints[finger, 0]), 1.0, 2), (float(joints[finger, 1]), 0.9, 1))
        for place, depth, count in places[1:] if finger == 0 else places:
            gap = 0.022 + abs(float(genes.normal(0.008)))
            shift, arcs, slants = genes.normal(0.012), genes.normal(0.012, 2), genes.normal(0.012, 2)
            depths = depth * genes.scale(0.3, 2)
            for k in range(count):
                u = place - 0.012 + float(shift) + (k - (count - 1) / 2) * gap
                line = _across(u, float(arcs[k]), float(slants[k])) + _wobble(genes.own, 0.004) * (1, 0)
                (main if k == 0 else fine).line(line, float(depths[k]) * 0.58, finger=finger, taper=0.3)
    for y, depth in ((0.0, 0.7), (-0.035, 0.5)):
        bent = np.array([(-0.13, y), (-0.05, y + 0.02), (0.05, y + 0.02), (0.13, y)]) + genes.normal(0.008, 4, 2)
        main.line(_bezier(bent), depth)
    for x in (-0.03, 0.05):
        control = np.array([(x, -0.5), (x, -0.3), (x, -0.15), (x, -0.03)]) + genes.normal(0.025, 4, 2)
        vein.line(_bezier(control), 0.5)
    return Marks(main.strokes(), fine.strokes(), vein.strokes(), _Pen().strokes())


def _veins(pen: _Pen, genes: Genes) -> None:
    mains: list[F64] = []
    for x_high, x_low in ((0.17, 0.11), (0.075, 0.05), (-0.03, 0.0), (-0.13, -0.07)):
        there = genes.shared.random() < 0.85
        control = np.array([(x_high, 0.44), (x_high, 0.30), (x_low, 0.14), (x_low, -0.02)])
        curve = _bezier(control + genes.normal(0.028, 4, 2)) + _wobble(genes.shared, 0.014)
        strength = float(np.clip(genes.scale(0.3), 0.4, 1.5))
        mains.append(curve)
        if there:
            pen.line(curve, strength, taper=0.3)
            low = np.linspace(curve[-1], curve[-1] + (genes.shared.normal(0, 0.06), -0.35), KNOTS)
            pen.line(low + _wobble(genes.shared, 0.012) * np.linspace(0, 1, KNOTS)[:, None], strength * 0.8)
    for left in range(3):
        for _ in range(2):
            start, stop = genes.shared.integers(2, 16), genes.shared.integers(2, 16)
            if genes.shared.random() < 0.55:
                a, b = mains[left][start], mains[left + 1][stop]
                pen.line(np.linspace(a, b, KNOTS) + _wobble(genes.shared, 0.008), 0.7, taper=0.1)


def dorsal_marks(genes: Genes, joints: F64, knuckles: F64, *, age: int) -> Marks:
    """Folds over the joints, veins and tendons; ``knuckles`` [5, 2] are the fingers' bases in the hand's frame."""
    main, fine, vein, ridge = _Pen(), _Pen(), _Pen(), _Pen()
    worn = 0.6 + age / 70
    for finger in range(5):
        for joint, count, reach in ((0, 5, 0.055), (1, 3, 0.028)):
            strength, shift = float(genes.scale(0.35)), float(genes.normal(0.01))
            offsets, arcs, slants = genes.normal(0.008, 6), genes.normal(0.006, 6), genes.normal(0.014, 6)
            halves = np.clip(0.62 * genes.scale(0.2, 6), 0.35, 0.9)
            for k in range(count):
                side = (k - (count - 1) / 2) / count * 2
                u = float(joints[finger, joint]) + shift + side * reach + float(offsets[k])
                curve = _across(u, 0.025 * side + float(arcs[k]), float(slants[k]), float(halves[k]))
                pen = main if abs(side) < 0.3 and joint == 0 else fine
                depth = worn * strength * (0.75 - 0.35 * abs(side))
                pen.line(curve + _wobble(genes.own, 0.004) * (1, 0), depth, finger=finger, taper=0.35)
    _veins(vein, genes)
    for finger in range(1, 5):
        wrist = np.array([0.02 + 0.025 * (2.5 - finger), 0.03])
        curve = np.linspace(knuckles[finger], wrist, KNOTS) + genes.normal(0.004, KNOTS, 2) * 0.3
        ridge.line(curve, float(genes.scale(0.3)), taper=0.3)
    for _ in range(8 + age // 5):
        centre = genes.own.uniform((-0.16, 0.0), (0.13, 0.42))
        fine.line(
            _segment(centre, float(genes.own.normal(0.2, 0.5)), float(genes.own.uniform(0.03, 0.1)), 0.2), 0.25 * worn
        )
    return Marks(main.strokes(), fine.strokes(), vein.strokes(), ridge.strokes())
