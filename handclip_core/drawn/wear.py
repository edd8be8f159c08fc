"""Things worn: rings, watch, bracelet, sleeve. They cover the skin, raise the height and cast their own colour."""

import numpy as np

from handclip_core.drawn.anatomy import Hand
from handclip_core.drawn.fields import grain, ramp, sample, strips
from handclip_core.drawn.paint import Surface
from handclip_core.drawn.pose import Outfit, Ring
from handclip_core.drawn.seeds import F32, F64
from handclip_core.drawn.shape import Box, Frame, Solid

WATCH_Y = -0.115
"""Middle of a watch, in hand lengths from the wrist."""
BRACELET_Y = -0.07
"""Middle of a bracelet."""

_ALL: Box = (slice(None), slice(None))


def _lay(surface: Surface, box: Box, mask: F32, colour: F64, *, gloss: float, raise_by: F32 | float) -> None:
    """Put a material of linear ``colour`` [3] where ``mask`` [h, w] says."""
    for c in range(3):
        surface.colour[c][box] += mask * (np.float32(colour[c]) - surface.colour[c][box])
    surface.gloss[box] += mask * (np.float32(gloss) - surface.gloss[box])
    surface.height[box] += mask * raise_by


def _ring(surface: Surface, solid: Solid, ring: Ring, colour: F64, frame: Frame, *, palmar: bool) -> None:
    for number, field in solid.fingers:
        if number != ring.finger:
            continue
        length = np.float32(
            1
            / max(float(np.ptp(field.u)), 1e-6)
            * np.hypot(*np.ptp(np.stack([frame.x[field.box], frame.y[field.box]]).reshape(2, -1), axis=1))
        )
        along = np.abs(field.u - np.float32(ring.share) - np.float32(0.012) * field.v**2) * length
        sharp = np.float32(frame.scale)
        mask = np.clip(0.5 + (np.float32(ring.half_width) - along) * sharp, 0, 1)
        mask *= np.clip(0.5 - (field.distance - np.float32(0.004)) * sharp, 0, 1)
        shine = 0.72 + 0.38 * np.cos(field.v * np.float32(4.2) + 1.0)
        band = np.float32(0.006) * np.sqrt(np.clip(1 - (along * np.float32(1 / ring.half_width)) ** 2, 0, 1))
        _lay(surface, field.box, mask, colour, gloss=0.6, raise_by=band)
        for c in range(3):
            surface.colour[c][field.box] *= 1 - mask * (1 - shine)
        surface.distance[field.box] = np.minimum(
            surface.distance[field.box], np.where(along < ring.half_width, field.distance - np.float32(0.004), 1.0)
        )
        if ring.stone and not palmar:
            round_mask = np.clip(0.5 + (np.float32(0.022) - np.hypot(along, field.v * field.width)) * sharp, 0, 1)
            _lay(surface, field.box, round_mask, np.array([0.75, 0.8, 0.85]), gloss=0.9, raise_by=0.012)


def _band(surface: Surface, frame: Frame, at_y: float, half: float, bow: float) -> F32:
    """Mask [H, W] of a band around the wrist."""
    y = frame.y - np.float32(at_y) - np.float32(bow) * frame.x * frame.x
    mask = np.clip(0.5 + (np.float32(half) - np.abs(y)) * np.float32(frame.scale), 0, 1)
    grown = surface.distance - np.float32(0.006)
    inside = np.clip(0.5 - grown * np.float32(frame.scale), 0, 1)
    surface.distance = np.where(mask > 0.5, grown, surface.distance)
    result: F32 = mask * inside
    return result


def _watch(surface: Surface, frame: Frame, colour: F64, strap: F64, *, palmar: bool) -> None:
    mask = _band(surface, frame, WATCH_Y, 0.048, 0.3)
    _lay(surface, _ALL, mask, strap, gloss=0.15, raise_by=0.008)
    away = np.hypot(frame.x, frame.y - np.float32(WATCH_Y))
    if palmar:
        buckle = np.clip(
            0.5
            + (0.03 - np.maximum(np.abs(frame.x), np.abs(frame.y - np.float32(WATCH_Y)) * 0.6))
            * np.float32(frame.scale),
            0,
            1,
        )
        _lay(surface, _ALL, buckle, colour, gloss=0.6, raise_by=0.006)
        return
    case = np.clip(0.5 + (np.float32(0.092) - away) * np.float32(frame.scale), 0, 1)
    flat = np.float32(0.105) + np.float32(0.02) * (1 - ramp(away, 0.075, 0.092))
    _lay(surface, _ALL, case, colour, gloss=0.6, raise_by=flat - surface.height)
    dial = np.clip(0.5 + (np.float32(0.072) - away) * np.float32(frame.scale), 0, 1)
    _lay(
        surface,
        _ALL,
        dial,
        strap * 0.3 + 0.02 if strap.mean() > 0.2 else np.array([0.7, 0.7, 0.68]),
        gloss=0.4,
        raise_by=0.0,
    )


def _sleeve(surface: Surface, hand: Hand, frame: Frame, colour: F64, at_y: float) -> None:
    inverse = np.linalg.inv(frame.to_pixel) * 150.0
    shift = -inverse @ frame.offset + 240.0
    weave = sample(grain(512), np.concatenate([inverse, shift[:, None]], axis=1), frame.shape)
    for rows in strips(frame.shape):
        _cloth(surface, hand, frame, colour, at_y, weave, rows)


def _cloth(surface: Surface, hand: Hand, frame: Frame, colour: F64, at_y: float, weave: F32, rows: slice) -> None:
    """Some rows of a sleeve of a ``weave`` [H, W]."""
    x, y = frame.x[rows], frame.y[rows]
    edge = np.float32(at_y) + np.float32(0.012) * np.sin(x * np.float32(17.0)) + np.float32(0.25) * x * x
    low = np.float32(at_y) - y
    wide = np.abs(x) - np.float32(0.165 * hand.wrist) - np.clip(low, 0, 1) * np.float32(0.22)
    cloth = np.maximum(wide, y - edge)
    mask = np.clip(0.5 - cloth * np.float32(frame.scale), 0, 1)
    across = np.clip(x / (np.float32(0.165 * hand.wrist) + np.clip(low, 0, 1) * np.float32(0.22)), -1, 1)
    folds = np.float32(0.006) * np.sin(y * np.float32(38) + np.float32(9) * across * across + x * np.float32(14))
    bulge = np.float32(0.15) * np.sqrt(1 - across * across) + folds * (1 - across * across)
    height = surface.height[rows]
    height += mask * (bulge - height)
    cuff = 1 - np.float32(0.25) * np.exp(-0.5 * ((y - edge + np.float32(0.035)) * np.float32(1 / 0.004)) ** 2)
    for c in range(3):
        plane = surface.colour[c, rows]
        plane += mask * (np.float32(colour[c]) * (1 + np.float32(0.06) * weave[rows]) * cuff - plane)
    surface.gloss[rows] *= 1 - mask
    surface.distance[rows] = np.minimum(surface.distance[rows], cloth)


def wear(surface: Surface, outfit: Outfit, hand: Hand, solid: Solid, frame: Frame, *, palmar: bool) -> None:
    """Put everything of ``outfit`` but nail polish on the hand, in place."""
    for ring in outfit.rings:
        _ring(surface, solid, ring, outfit.colour(ring.metal), frame, palmar=palmar)
    if outfit.bracelet is not None:
        mask = _band(surface, frame, BRACELET_Y, 0.011, 0.5)
        _lay(surface, _ALL, mask, outfit.colour(outfit.bracelet), gloss=0.4, raise_by=0.008)
    if outfit.watch is not None:
        case = outfit.colour("gold" if outfit.watch == "gold" else "silver")
        _watch(surface, frame, case, outfit.colour(outfit.watch), palmar=palmar)
    if outfit.sleeve is not None:
        _sleeve(surface, hand, frame, outfit.colour(outfit.sleeve), outfit.sleeve_y)
