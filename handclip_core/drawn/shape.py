"""Outline and height of a posed hand, from tapered limbs with smooth unions."""

from dataclasses import dataclass

import numpy as np

from handclip_core.drawn.anatomy import Finger, Hand
from handclip_core.drawn.fields import blur, ramp, smooth_max, smooth_min, strips
from handclip_core.drawn.pose import Pose
from handclip_core.drawn.seeds import F32, F64

Box = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Frame:
    """Pixels of an image in the hand's frame: ``x``, ``y`` [H, W] in hand lengths, ``scale`` in pixels a length."""

    to_pixel: F64
    offset: F64
    x: F32
    y: F32
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.x.shape[0], self.x.shape[1]

    def pixel(self, points: F64 | F32) -> F64:
        """Hand coordinates [..., 2] as (column, row) pixels."""
        result: F64 = np.asarray(points, np.float64) @ self.to_pixel.T + self.offset
        return result

    def box(self, points: F64, margin: float) -> Box:
        """Slices of the image that hold all points and ``margin`` hand lengths around them."""
        places = self.pixel(points)
        low, high = places.min(axis=0) - margin * self.scale, places.max(axis=0) + margin * self.scale
        height, width = self.shape
        columns = slice(int(np.clip(low[0], 0, width)), int(np.clip(np.ceil(high[0]) + 1, 0, width)))
        rows = slice(int(np.clip(low[1], 0, height)), int(np.clip(np.ceil(high[1]) + 1, 0, height)))
        return rows, columns


def frame(pose: Pose, height_px: int, width_px: int) -> Frame:
    """The frame of an image."""
    to_pixel = pose.matrix * height_px
    offset = pose.offset * height_px - 0.5
    inverse = np.linalg.inv(to_pixel)
    columns = np.arange(width_px, dtype=np.float32) - np.float32(offset[0])
    rows = (np.arange(height_px, dtype=np.float32) - np.float32(offset[1]))[:, None]
    inv = inverse.astype(np.float32)
    return Frame(
        to_pixel, offset, inv[0, 0] * columns + inv[0, 1] * rows, inv[1, 0] * columns + inv[1, 1] * rows,
        float(np.sqrt(abs(np.linalg.det(to_pixel)))),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class PosedFinger:
    """A finger in place: joints [4, 2] and unit directions [3, 2] in the frame of the hand."""

    finger: Finger
    joints: F64
    directions: F64
    bones: F64

    def point(self, share: F64, radii: F64) -> F64:
        """Points [..., 2] of the hand's frame at shares of the length and offsets in half widths."""
        ends = np.concatenate([[0.0], np.cumsum(self.bones)])
        u = share * ends[-1]
        bone = np.clip(np.searchsorted(ends, u) - 1, 0, 2)
        way = self.directions[bone]
        across = np.stack([way[..., 1], -way[..., 0]], axis=-1)
        width = np.interp(share, self.finger.shares, self.finger.widths) * radii
        points: F64 = self.joints[bone] + (u - ends[bone])[..., None] * way + width[..., None] * across
        return points


def posed_fingers(hand: Hand, pose: Pose) -> tuple[PosedFinger, ...]:
    """The five fingers in place."""
    fingers = []
    for number, finger in enumerate(hand.fingers):
        turn = pose.spread[number] + finger.angle
        if number == 0:
            angles = turn + np.cumsum(
                [0.0, -0.10 + finger.bend[0] + pose.bend[0, 0], -0.08 + finger.bend[1] + pose.bend[0, 1]]
            )
        else:
            angles = turn + np.cumsum([0.0, *(finger.bend + pose.bend[number])])
        directions = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        bones = finger.bones * pose.shorten[number]
        joints = np.concatenate([[finger.base], finger.base + np.cumsum(directions * bones[:, None], axis=0)])
        fingers.append(PosedFinger(finger, joints, directions, bones))
    return tuple(fingers)


@dataclass(frozen=True, eq=False)
class FingerField:
    """A finger's pixels: share of the length ``u``, offset ``v`` in half widths, ``distance``, half ``width``."""

    box: Box
    u: F32
    v: F32
    distance: F32
    width: F32


def finger_field(posed: PosedFinger, frame: Frame, reach: float) -> FingerField | None:
    """Coordinates along and across a finger up to ``reach`` from it; None if it is out of the image."""
    finger = posed.finger
    box = frame.box(posed.joints, float(finger.widths.max()) + reach)
    x, y = frame.x[box], frame.y[box]
    if x.size == 0:
        return None
    parts = [_finger_at(posed, x[rows], y[rows]) for rows in strips(x.shape)]
    return FingerField(box, *(np.concatenate(part) for part in zip(*parts, strict=True)))


def _finger_at(posed: PosedFinger, x: F32, y: F32) -> tuple[F32, F32, F32, F32]:
    """A finger's coordinates at places [h, w] of the hand's frame, as in ``FingerField``."""
    finger = posed.finger
    tip = finger.widths[-1]
    ends = np.concatenate([[0.0], np.cumsum(posed.bones)])
    near = np.full(x.shape, np.inf, np.float32)
    along, across = np.zeros_like(x), np.zeros_like(x)
    for k in range(3):
        way = posed.directions[k].astype(np.float32)
        dx, dy = x - np.float32(posed.joints[k, 0]), y - np.float32(posed.joints[k, 1])
        t, side = dx * way[0] + dy * way[1], dx * way[1] - dy * way[0]
        stop = float(posed.bones[k]) - (tip * finger.tip if k == 2 else 0.0)
        over = t - np.clip(t, 0, stop)
        squash = np.float32(1 / finger.tip) if k == 2 else np.float32(1)
        distance = np.sqrt(side * side + (over * squash) ** 2)
        closer = distance < near
        near = np.where(closer, distance, near)
        along = np.where(closer, np.float32(ends[k]) + t, along)
        across = np.where(closer, side, across)
    u = along * np.float32(1 / ends[-1])
    width = np.interp(u, finger.shares, finger.widths).astype(np.float32)
    return u, across / width, near - width, width


def _limb(x: F32, y: F32, start: F64, stop: F64, radii: tuple[float, float]) -> F32:
    """Signed distance [h, w] to a tapered limb at places of the hand's frame."""
    way = np.asarray(stop) - np.asarray(start)
    length = float(np.hypot(*way))
    way32 = (way / length).astype(np.float32)
    dx, dy = x - np.float32(start[0]), y - np.float32(start[1])
    t = np.clip(dx * way32[0] + dy * way32[1], 0, np.float32(length))
    dx -= t * way32[0]
    dy -= t * way32[1]
    result: F32 = np.sqrt(dx * dx + dy * dy) - (np.float32(radii[0]) + t * np.float32((radii[1] - radii[0]) / length))
    return result


def palm_distance(hand: Hand, frame: Frame, box: Box) -> F32:
    """Signed distance to palm and forearm without fingers."""
    x, y = frame.x[box], frame.y[box]
    return np.concatenate([_palm_at(hand, x[rows], y[rows]) for rows in strips(x.shape)])


def _palm_at(hand: Hand, x: F32, y: F32) -> F32:
    w, wrist = hand.width, hand.wrist
    bases = [finger.base for finger in hand.fingers]
    starts = ((0.06, 0.07), (0.015, 0.06), (-0.045, 0.06), (-0.07, 0.08))
    total = _limb(x, y, np.array([0.0, 0.05]), np.array([0.01, -0.16]), (0.150 * wrist, 0.138 * wrist))
    arm = _limb(x, y, np.array([0.01, -0.14]), np.array([0.0, -1.4]), (0.138 * wrist, 0.26 * wrist))
    total = smooth_min(total, arm, 0.06)
    for number, (at_x, at_y) in enumerate(starts, start=1):
        wide = (0.075 * w, 0.058 * w if number > 1 else 0.062 * w)
        total = smooth_min(total, _limb(x, y, np.array([at_x * w, at_y]), bases[number], wide), 0.05)
    edge = _limb(x, y, np.array([-0.100 * w, 0.10]), np.array([-0.152 * w, 0.30]), (0.085 * w, 0.070 * w))
    return smooth_min(total, edge, 0.07)


@dataclass(frozen=True, eq=False)
class Solid:
    """Signed distance (negative inside) and height [H, W] in hand lengths, with the fingers' coordinates."""

    distance: F32
    height: F32
    fingers: tuple[tuple[int, FingerField], ...]


def _swell(frame: Frame, box: Box, height: F32, spots: list[tuple[float, float, float, float, float]]) -> None:
    """Add gaussian bumps (x, y, sd along x, sd along y, height) in place."""
    x, y = frame.x[box], frame.y[box]
    for at_x, at_y, wide, long, amount in spots:
        square = ((x - np.float32(at_x)) * np.float32(1 / wide)) ** 2 + (
            (y - np.float32(at_y)) * np.float32(1 / long)
        ) ** 2
        height[box] += np.float32(amount) * np.exp(-0.5 * square)


def _relief(hand: Hand, palmar: bool) -> list[tuple[float, float, float, float, float]]:
    """Mounds and hollow of a palm, or knuckles of a back."""
    m, w = hand.mounds, hand.width
    if not palmar:
        return [(f.base[0], f.base[1] - 0.005, 0.03, 0.035, 0.016 * m[k]) for k, f in enumerate(hand.fingers) if k]
    pads = [(f.base[0], f.base[1] + 0.035, 0.035, 0.035, 0.007 * m[k]) for k, f in enumerate(hand.fingers) if k]
    return [
        (-0.005 * w, 0.28, 0.075, 0.10, -0.034 * m[5]),
        (0.125 * w, 0.20, 0.065, 0.10, 0.034 * m[6]),
        (-0.13 * w, 0.19, 0.055, 0.11, 0.022 * m[7]),
        *pads,
    ]


def solid(hand: Hand, posed: tuple[PosedFinger, ...], frame: Frame, *, palmar: bool) -> Solid:
    """The whole hand."""
    everything: Box = (slice(None), slice(None))
    distance = palm_distance(hand, frame, everything)
    fields = [
        (number, field)
        for number in range(5)
        if (field := finger_field(posed[number], frame, 0.06 if number else 0.10)) is not None
    ]
    thick = np.float32(0.085 * hand.thickness)
    thumb = [field for number, field in fields if number == 0]
    for field in thumb:
        k = 0.01 + 0.085 * ramp(-field.u, -0.62, -0.25)
        distance[field.box] = smooth_min(distance[field.box], field.distance, k)
    slab = distance.copy()
    for number, field in fields:
        if number:  # the palm's thickness runs out into the fingers
            reaching = field.distance + np.float32(0.16) * ramp(field.u, 0.05, 0.40)
            slab[field.box] = smooth_min(slab[field.box], reaching, 0.05)
    inside = np.clip(slab * np.float32(-1 / 0.115), 0, 1)
    height = blur(thick * np.sqrt(inside * (2 - inside)), 0.016 * frame.scale)
    palm = frame.box(np.array([(-0.2, 0.0), (-0.2, 0.55), (0.25, 0.0), (0.25, 0.55)]), 0.03)
    _swell(frame, palm, height, _relief(hand, palmar))
    for number, field in fields:
        base = (1 - ramp(field.u, 0.05, 0.42 if number else 0.6)) * ramp(field.u, -0.12, 0.12)
        if number:
            distance[field.box] = smooth_min(distance[field.box], field.distance, 0.006 + 0.05 * base)
        bulge = _bulge(field, thick * np.float32(0.86 if palmar else 1.0), thumb=number == 0, palmar=palmar)
        height[field.box] = smooth_max(height[field.box], bulge, 0.006 + 0.045 * base)
    return Solid(distance, height, tuple(fields))


def _bulge(field: FingerField, thick: np.float32, *, thumb: bool, palmar: bool) -> F32:
    """Height [h, w] of a finger: as thick as the palm at its base, round further out; a palm's side has pads."""
    across = np.clip(1 + field.distance / field.width, 0, 1)
    if thumb:
        tall = field.width * (np.float32(0.5) + np.float32(0.5) * ramp(field.u, 0.05, 0.5))
    else:
        tall = field.width + (thick - field.width) * (1 - ramp(field.u, 0.0, 0.55))
    result: F32 = np.float32(0.95) * tall * np.sqrt(1 - across * across)
    if palmar:
        result *= 1 + np.float32(0.10) * np.cos(field.u * np.float32(2 * np.pi * 3.2))
    return result
