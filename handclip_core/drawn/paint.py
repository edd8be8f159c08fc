"""Colour of the skin: lines, moles, nails and tints on top of the base colour, as linear light."""

from dataclasses import dataclass

import numpy as np

from handclip_core.drawn.anatomy import Hand, Mole, Person
from handclip_core.drawn.fields import draw_lines, grain, patches, ramp, sample, strips
from handclip_core.drawn.lines import PALM, Strokes
from handclip_core.drawn.seeds import F32, F64, stream
from handclip_core.drawn.shape import FingerField, Frame, PosedFinger, Solid

_LINE_WIDTHS = {"main": 0.0062, "fine": 0.0032, "vein": 0.0085, "ridge": 0.017}
_RED = (0.02, 0.30, 0.26)
_DARK = (0.55, 0.85, 0.95)
_VEIN = (0.26, 0.10, 0.04)


@dataclass(eq=False)
class Surface:
    """What the light meets: ``distance``, ``height`` [H, W] in hand lengths, ``colour`` [3, H, W], ``gloss``."""

    distance: F32
    height: F32
    colour: F32
    gloss: F32


@dataclass(frozen=True, eq=False)
class _Tints:
    """Amounts [H, W] of redness, darkness and veins."""

    red: F32
    dark: F32
    vein: F32


def _placed(strokes: Strokes, posed: tuple[PosedFinger, ...], frame: Frame) -> F32:
    """Points of lines in pixels [C, K, 2]."""
    points = strokes.points.astype(np.float64)
    for number in range(5):
        chosen = strokes.finger == number
        if chosen.any():
            points[chosen] = posed[number].point(points[chosen, :, 0], points[chosen, :, 1])
    return frame.pixel(points).astype(np.float32)


def _lines(kind: str, strokes: Strokes, posed: tuple[PosedFinger, ...], frame: Frame) -> F32:
    return draw_lines(_placed(strokes, posed, frame), strokes.depth, frame.shape, _LINE_WIDTHS[kind] * frame.scale)


def _bump(u: F32, centre: float, wide: float) -> F32:
    result: F32 = np.exp(-0.5 * ((u - np.float32(centre)) * np.float32(1 / wide)) ** 2)
    return result


def _finger_tints(
    tints: _Tints, person: Person, posed: PosedFinger, field: FingerField, cover: F32, *, palmar: bool
) -> None:
    """Redder fingertips; redder and darker knuckles on the back."""
    bones = posed.finger.bones
    first, second = bones[0] / bones.sum(), (bones[0] + bones[1]) / bones.sum()
    red = np.float32(0.6 if palmar else 0.35) * ramp(field.u, 0.66, 0.95)
    if not palmar:
        red = red + 0.75 * _bump(field.u, first, 0.055) + 0.6 * _bump(field.u, second, 0.045)
        tints.dark[field.box] += (
            np.float32(0.10) * cover * (_bump(field.u, first, 0.05) + _bump(field.u, second, 0.035))
        )
    tints.red[field.box] += np.float32(0.75 * person.skin.redness) * red * cover


def _spot(frame: Frame, posed: tuple[PosedFinger, ...], mole: Mole, dark: F32) -> None:
    place = np.asarray(mole.place)
    if mole.finger != PALM:
        place = posed[mole.finger].point(place[:1], place[1:])[0]
    radius = max(mole.radius, 0.45 / frame.scale)
    box = frame.box(place[None], 2.5 * radius)
    x, y = frame.x[box] - np.float32(place[0]), frame.y[box] - np.float32(place[1])
    square = (x * x + y * y) * np.float32(1 / radius**2)
    fade = min(1.0, (mole.radius / radius) ** 2)
    dark[box] += np.float32(1.7 * mole.dark * fade) * np.exp(-0.5 * square * square)


def _hairs(person: Person, frame: Frame, key: str) -> F32:
    """Short dark hairs on the back of the hand and the forearm."""
    rng = stream("hair", person.population, person.seed, person.index, key)
    count = int(600 * person.skin.hair)
    roots = rng.uniform((-0.20, -0.45), (0.12, 0.36), (count, 2))
    angle = rng.normal(-2.0, 0.45, count)
    steps = np.linspace(0, 1, 4)[None, :, None] * rng.uniform(0.012, 0.032, (count, 1, 1))
    points = roots[:, None] + steps * np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]
    depth = np.broadcast_to(rng.uniform(0.15, 0.6, (count, 1)), (count, 4)).astype(np.float32)
    return draw_lines(frame.pixel(points).astype(np.float32), depth, frame.shape, 0.0009 * frame.scale)


def _texture(person: Person, frame: Frame, key: str) -> tuple[F32, F32]:
    """Blotches that the person keeps and the fine grain of skin, both [H, W]."""
    rng = stream("texture", person.population, person.seed, person.index, key)
    inverse = np.linalg.inv(frame.to_pixel)
    origin = -inverse @ frame.offset

    def at(cells: float, shift: F64) -> F64:
        return np.concatenate([inverse * cells, (origin * cells + shift)[:, None]], axis=1)

    blotches = sample(patches(rng, 48), at(26.0, np.array([20.0, 19.0])), frame.shape)
    size = 512 if frame.scale < 330 else 1536
    cells = 0.45 * min(frame.scale, 800.0) if frame.scale >= 330 else 150.0
    fine = sample(grain(size), at(cells, np.array([0.45, 0.42]) * size), frame.shape)
    return blotches, fine


def _scar(person: Person, frame: Frame, key: str) -> F32:
    """A pale, red-rimmed line of a person with irregularities [H, W]."""
    rng = stream("scar", person.population, person.seed, person.index, key)
    start = rng.uniform((-0.14, 0.12), (0.10, 0.42))
    way = rng.normal(0, 0.05, 2)
    points = start + np.linspace(-1, 1, 9)[:, None] * way + rng.normal(0, 0.002, (9, 2))
    depth = np.ones((1, 9), np.float32)
    return draw_lines(frame.pixel(points[None]).astype(np.float32), depth, frame.shape, 0.005 * frame.scale)


def _tinted(base: F64, tints: _Tints) -> F32:
    """Linear colour [3, H, W]: what redness, darkness and veins leave of ``base`` [3]."""
    out = np.empty((3, *tints.red.shape), np.float32)
    for rows in strips(tints.red.shape):
        red, dark, vein = tints.red[rows], tints.dark[rows], tints.vein[rows]
        for c in range(3):
            loss = np.float32(_RED[c]) * red + np.float32(_DARK[c]) * dark + np.float32(_VEIN[c]) * vein
            out[c, rows] = np.float32(base[c]) * np.exp(-loss)
    return out


def skin(
    person: Person, hand: Hand, solid: Solid, posed: tuple[PosedFinger, ...], frame: Frame, *, palmar: bool, key: str
) -> Surface:
    """Skin with all its lines, which are carved into the height too; ``key`` names the side of the hand."""
    marks, traits = hand.palmar if palmar else hand.dorsal, person.skin
    main, fine, vein = (_lines(kind, getattr(marks, kind), posed, frame) for kind in ("main", "fine", "vein"))
    main, fine = np.minimum(main, np.float32(1.4)), np.minimum(fine, np.float32(1.5))
    blotches, pores = _texture(person, frame, key)
    dark: F32 = np.float32(0.62 if palmar else 0.42) * main + np.float32(0.32) * fine
    dark += np.float32(0.035) * pores + np.float32(0.05 * traits.mottle) * blotches
    red: F32 = np.float32((0.45 if palmar else 0.35) * traits.mottle) * blotches
    height: F32 = solid.height - np.float32(0.0058) * main - np.float32(0.0016) * fine
    height += np.float32(0.0055 * traits.veins) * vein + np.float32(0.00035) * pores
    if not palmar:
        height += np.float32(0.006) * _lines("ridge", marks.ridge, posed, frame)
        dark += np.minimum(_hairs(person, frame, key), np.float32(1))
    if person.irregular:
        scar = _scar(person, frame, key)
        dark -= np.float32(0.25) * scar
        red += np.float32(0.5) * scar
        height += np.float32(0.002) * scar
    tints = _Tints(red=red, dark=dark, vein=np.float32(traits.veins) * vein)
    for number, field in solid.fingers:
        cover = np.clip(0.5 - field.distance * np.float32(0.3 * frame.scale), 0, 1)
        _finger_tints(tints, person, posed[number], field, cover, palmar=palmar)
    for mole in hand.palmar_moles if palmar else hand.dorsal_moles:
        _spot(frame, posed, mole, tints.dark)
    colour = _tinted(traits.palmar_rgb if palmar else traits.dorsal_rgb, tints)
    return Surface(solid.distance, height, colour, np.full(frame.shape, 0.05 * traits.gloss, np.float32))


def nails(
    surface: Surface, person: Person, solid: Solid, posed: tuple[PosedFinger, ...], frame: Frame, polish: F64 | None
) -> None:
    """Nails on the back of the fingers, in place."""
    for number, field in solid.fingers:
        finger = posed[number].finger
        nail, box = finger.nail, field.box
        tip = finger.widths[-1]
        half = nail.half_length * tip / finger.length * (1.25 if number == 0 else 1.15)
        centre = 1.0 - half * 0.98 + 0.35 * nail.white * half
        side = field.v * field.width * np.float32(1 / (tip * nail.half_width)) - np.float32(
            0.22 if number == 0 else 0.0
        )
        along = (field.u - np.float32(centre)) * np.float32(1 / half)
        radius = (np.abs(side) ** nail.square + np.abs(along) ** nail.square) ** np.float32(1 / nail.square)
        mask = np.clip(0.5 + (1 - radius) * np.float32(tip * frame.scale * 0.8), 0, 1)
        if not mask.any():
            continue
        edge = ramp(along, 0.92 - 1.6 * nail.white, 1.0 - 1.2 * nail.white)
        moon = ramp(-along, 0.55, 0.9) * np.float32(0.35)
        plain = person.skin.nail_rgb if polish is None else polish
        for c in range(3):
            pale = (edge * np.float32(0.75) + moon) if polish is None else np.float32(0)
            tone = np.float32(plain[c]) * (1 - pale) + np.float32((0.80, 0.74, 0.66)[c]) * pale
            surface.colour[c][box] += mask * (tone - surface.colour[c][box])
        rim = np.exp(-0.5 * ((radius - 1) * np.float32(9)) ** 2)
        for c in range(3):
            surface.colour[c][box] *= 1 - np.float32(0.22) * rim * (0.6, 1.0, 1.0)[c]
        surface.gloss[box] += mask * np.float32((0.22 if polish is None else 0.5) - 0.05)
        surface.height[box] += np.float32(0.0045) * mask
