"""Squares of images: those of open_clip's own transform, and where they differ on purpose."""

import io
from collections.abc import Callable

import numpy as np
import open_clip
import pytest
from PIL import Image

from handclip_core.data.framing import Frame, Framing
from handclip_core.data.pixels import shrink

SIZE_PX = 48
MODES = {Framing.SQUASH: "squash", Framing.CROP: "shortest", Framing.PAD: "longest"}
SHAPES = [(90, 61), (61, 90), (64, 64), (30, 20)]
FRAMES = [Frame(framing, smooth, 9) for framing in Framing for smooth in ("bicubic", "bilinear")]
every_frame = pytest.mark.parametrize("frame", FRAMES, ids=str)


def theirs(image: Image.Image, frame: Frame) -> np.ndarray:
    """What open_clip makes of an image, in grey levels [S, S, 3]."""
    transform = open_clip.image_transform(
        SIZE_PX,
        is_train=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        resize_mode=MODES[frame.framing],
        interpolation=frame.interpolation,
        fill_color=frame.fill,
    )
    levels: np.ndarray = transform(image).permute(1, 2, 0).numpy() * 255
    return levels


def ours(image: Image.Image, frame: Frame, **saving: object) -> tuple[np.ndarray, Image.Image]:
    """What is made of an image's file, and the file as Pillow opens it."""
    buffer = io.BytesIO()
    image.save(buffer, **saving)  # type: ignore[arg-type]
    found = shrink(buffer.getvalue(), size_px=SIZE_PX, frame=frame).astype(float)
    return found, Image.open(io.BytesIO(buffer.getvalue()))


@every_frame
@pytest.mark.parametrize("size", SHAPES)
def test_squares_are_those_of_open_clip(
    make_image: Callable[..., Image.Image], frame: Frame, size: tuple[int, int]
) -> None:
    for mode, saving in (("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "PNG"), ("L", "PNG")):
        found, opened = ours(make_image(3, size=size).convert(mode), frame, format=saving)
        assert np.abs(found - theirs(opened, frame)).max() <= 1


@every_frame
def test_other_kinds_of_image_are_upright_rgb_before_they_are_resized(
    make_image: Callable[..., Image.Image], frame: Frame
) -> None:
    """open_clip resizes palettes by the nearest pixel, mixes CMYK, keeps what is transparent, and turns nothing."""
    picture = make_image(4, size=(90, 61))
    palette = picture.quantize(32)
    found, _ = ours(palette, frame, format="PNG")
    assert np.abs(found - theirs(palette.convert("RGB"), frame)).max() <= 1
    cmyk = picture.convert("CMYK")
    found, opened = ours(cmyk, frame, format="TIFF")
    assert np.abs(found - theirs(opened.convert("RGB"), frame)).max() <= 1
    seen = Image.new("L", picture.size, 255)
    seen.paste(0, (0, 0, 30, 61))
    clear = picture.copy()
    clear.putalpha(seen)
    found, _ = ours(clear, frame, format="PNG")
    white = picture.copy()
    white.paste((255, 255, 255), (0, 0, 30, 61))
    assert np.abs(found - theirs(white, frame)).max() <= 1
    exif = Image.Exif()
    exif[0x0112] = 6
    found, _ = ours(picture, frame, format="PNG", exif=exif)
    assert np.abs(found - theirs(picture.transpose(Image.Transpose.ROTATE_270), frame)).max() <= 1


@pytest.mark.parametrize("framing", Framing)
def test_a_large_jpeg_is_read_whole_unless_it_is_squashed(
    make_image: Callable[..., Image.Image], framing: Framing
) -> None:
    frame = Frame(framing)
    found, opened = ours(make_image(5, size=(400, 300)), frame, format="JPEG")
    off = np.abs(found - theirs(opened, frame))
    assert off.max() > 1 if framing is Framing.SQUASH else off.max() <= 1
    assert off.mean() < 2
