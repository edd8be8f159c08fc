"""From a person to the pixels of an image."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from handclip_core.drawn.anatomy import Person
from handclip_core.drawn.fields import blur, resize, strips
from handclip_core.drawn.paint import Surface, nails, skin
from handclip_core.drawn.pose import Camera, Light, Outfit, camera, drift, light, outfit, pose
from handclip_core.drawn.seeds import F32
from handclip_core.drawn.shape import Frame, frame, posed_fingers, solid
from handclip_core.drawn.wear import BRACELET_Y, WATCH_Y, wear
from handclip_core.errors import InputError

# The words of types.Aspect, whose module imports torch: the drawing processes start without it.
ASPECTS = ("dorsal right", "dorsal left", "palmar right", "palmar left")
SMALLEST_PX = 32


@dataclass(frozen=True)
class Details:
    """What an image shows besides the person."""

    aspect: str
    shot: int
    outfit: Outfit
    fingers_up: bool
    irregularities: bool
    seen: frozenset[str]
    """Which of sleeve, watch and bracelet lie inside the image."""

    @property
    def accessories(self) -> bool:
        """Rings, a watch or a bracelet."""
        return self.outfit.accessories

    @property
    def nail_polish(self) -> bool:
        """Nail polish, whether or not this side shows the nails."""
        return self.outfit.polish is not None


@dataclass(frozen=True, eq=False)
class Shot:
    """One image: ``pixels`` uint8 [H, W, 3] and what it shows."""

    pixels: npt.NDArray[np.uint8]
    details: Details


def _slopes(height: F32) -> tuple[F32, F32]:
    """Derivatives along columns and rows [H, W]; the steepest, at outlines, are held back."""
    across, down = np.zeros_like(height), np.zeros_like(height)
    across[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * np.float32(0.5)
    down[1:-1] = (height[2:] - height[:-2]) * np.float32(0.5)
    for slope in (across, down):
        slope /= 1 + np.float32(0.22) * np.abs(slope)
    return across, down


def _lit(surface: Surface, source: Light, scale: float) -> F32:
    """Skin under the light as linear [3, H, W]."""
    raised = surface.height * np.float32(scale)
    across, down = _slopes(raised)
    lx, ly, lz = (np.float32(part) for part in source.direction)
    half = np.array([lx, ly, lz + 1.0])
    half /= np.linalg.norm(half)
    smooth = blur(surface.height, 0.045 * scale)
    out = np.empty_like(surface.colour)
    for rows in strips(across.shape):
        right, below = across[rows], down[rows]
        norm = 1 / np.sqrt(right * right + below * below + 1)
        facing = (lz - lx * right - ly * below) * norm
        hollow = smooth[rows] - surface.height[rows]
        open_sky = np.clip(1 - np.float32(3.2) * np.maximum(hollow, 0), 0.45, 1) * (
            np.float32(0.55) + np.float32(0.45) * norm
        )
        glint = np.clip((np.float32(half[2]) - np.float32(half[0]) * right - np.float32(half[1]) * below) * norm, 0, 1)
        glint = glint**2
        glint = glint**2
        glint = surface.gloss[rows] * (glint**2) ** 2 * np.float32(0.9)
        for c, wrap in enumerate((0.42, 0.30, 0.26)):
            direct = np.maximum(facing + np.float32(wrap), 0) * np.float32((1 - source.ambient) / (lz + wrap))
            out[c, rows] = (
                surface.colour[c, rows] * (direct + np.float32(source.ambient) * open_sky) + glint
            ) * np.float32(source.colour[c])
    return out


def _shadow(cover: F32, source: Light) -> F32:
    """How much light the background gets [H, W]: a soft cast shadow and a tight contact shadow."""
    height, width = cover.shape
    rows = max(24, height // 4)
    columns = rows * width // height
    small = resize(cover, rows, columns)
    reach = source.shadow_reach * rows / max(float(source.direction[2]), 0.35)
    shift = np.round(-source.direction[:2] * reach).astype(int)
    pad = int(np.abs(shift).max()) + 1
    padded = np.pad(small, pad, mode="edge")
    moved = padded[pad - shift[1] : pad - shift[1] + rows, pad - shift[0] : pad - shift[0] + columns]
    soft = blur(np.ascontiguousarray(moved), max(0.6, source.shadow_blur * rows))
    wide = blur(small, 0.10 * rows)
    dark = np.float32(source.shadow) * soft + np.float32(0.4 * source.shadow) * wide
    return 1 - np.minimum(resize(dark, height, width), 0.85)


def _background(lens: Camera, shape: tuple[int, int]) -> tuple[F32, F32]:
    """Brightness of the plain background and the vignette, both [H, W]."""
    height, width = shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(width / height)
    b = lens.background.astype(np.float32)
    plain = b[0] + b[1] * x + b[2] * y + b[3] * x * x + b[4] * y * y + b[5] * x * y
    fall = 1 - np.float32(lens.vignette) * (x * x + y * y) * np.float32(0.36)
    return np.clip(plain, 0.35, 1.02), fall


def _moved(image: F32, step: npt.NDArray[np.float64]) -> F32:
    """Motion blur of [H, W] along ``step`` pixels."""
    far = float(np.hypot(*step))
    if far < 0.7:
        return image
    taps = int(np.ceil(far)) + 1
    pad = int(np.ceil(far / 2)) + 1
    padded = np.pad(image, pad, mode="edge")
    height, width = image.shape
    shifts = [[int(np.round(s * t)) + pad for s in step] for t in np.linspace(-0.5, 0.5, taps)]
    total = np.zeros_like(image)
    for rows in strips(image.shape):
        strip = total[rows]
        for dx, dy in shifts:
            strip += padded[rows.start + dy : min(rows.stop, height) + dy, dx : dx + width]
        strip /= np.float32(taps)
    return total


def _developed(scene: F32, lens: Camera, fall: F32, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Exposure, blur, tone curve and noise: linear [3, H, W] to uint8 [H, W, 3]."""
    height, width = fall.shape
    planes = []
    for c in range(3):
        plane = scene[c] * (fall * np.float32(lens.exposure * lens.cast[c]))
        planes.append(_moved(blur(plane, lens.blur * height), lens.motion * height))
    shown = np.empty((height, width, 3), np.uint8)
    for rows in strips(fall.shape):
        out = np.empty(shown[rows].shape, np.float32)
        for c, plane in enumerate(planes):
            tone = np.sqrt(np.clip(plane[rows], 0, 1))
            curved = tone * tone * (3 - 2 * tone)
            out[..., c] = tone + np.float32(lens.contrast) * (curved - tone)
        noise = rng.standard_normal(out.shape, dtype=np.float32) * np.float32(lens.noise)
        shown[rows] = np.clip((out + noise) * 255 + 0.5, 0, 255)
    return shown


def _seen(worn: Outfit, view: Frame) -> frozenset[str]:
    """What is worn on the arm and not cut off by the border of the image."""
    height, width = view.shape
    places = {"sleeve": worn.sleeve_y - 0.04, "watch": WATCH_Y, "bracelet": BRACELET_Y}
    seen = set()
    for name, y in places.items():
        column, row = view.pixel(np.array([0.0, y]))
        if getattr(worn, name) is not None and 0 < column < width and 0 < row < height:
            seen.add(name)
    return frozenset(seen)


def draw_image(person: Person, aspect: str, *, shot: int, height_px: int, sitting: int = 0) -> Shot:
    """Draw one image, 4:3 landscape; a pure function of its arguments, byte for byte.

    ``aspect`` is an Aspect or its value; images of one ``sitting`` share most of their pose, light and ground. Returns
    ``pixels`` uint8 [height_px, width, 3] and their details. Raises InputError for an aspect that is none of the four
    or a height below 32 px.
    """
    name = str(aspect)
    if name not in ASPECTS:
        raise InputError(f"aspect {name!r} cannot be drawn; use one of: {', '.join(ASPECTS)}")
    if height_px < SMALLEST_PX:
        raise InputError(f"height_px {height_px} is too small to draw a hand; use at least {SMALLEST_PX}")
    width_px = round(height_px * 4 / 3)
    palmar, side = name.startswith("palmar"), name.split()[1]
    hand = person.right if side == "right" else person.left
    change = drift(person, name, shot, sitting=sitting)
    posture, source, lens = pose(change, person, name, ratio=4 / 3), light(change), camera(change)
    worn = outfit(person, name, shot)
    view = frame(posture, height_px, width_px)
    posed = posed_fingers(hand, posture)
    body = solid(hand, posed, view, palmar=palmar)
    surface = skin(person, hand, body, posed, view, palmar=palmar, key=name)
    if not palmar:
        nails(surface, person, body, posed, view, None if worn.polish is None else worn.colour(f"polish {worn.polish}"))
    wear(surface, worn, hand, body, view, palmar=palmar)
    cover = np.clip(0.5 - surface.distance * np.float32(view.scale), 0, 1)
    lit = _lit(surface, source, view.scale)
    plain, fall = _background(lens, view.shape)
    plain = plain * _shadow(cover, source)
    scene = np.stack([plain * np.float32(source.colour[c]) * (1 - cover) + lit[c] * cover for c in range(3)])
    details = Details(name, shot, worn, posture.fingers_up, person.irregular, _seen(worn, view))
    return Shot(_developed(scene, lens, fall, change.shot), details)
