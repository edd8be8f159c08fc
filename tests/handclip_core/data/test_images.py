"""Every kind of file that somebody will one day put among the images."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from handclip_core.data import images
from handclip_core.data.images import (
    MAX_PIXELS_VARIABLE,
    SUFFIXES,
    UNREAD,
    BadImageError,
    decode_rgb,
    read_image,
)
from handclip_core.errors import InputError

RED = (200, 40, 30)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode: str = "RGB", colour: object = RED, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def assert_colour(data: bytes, colour: tuple[int, int, int], *, tolerance: int = 6) -> None:
    decoded = decode_rgb(data)
    assert decoded.mode == "RGB"
    assert np.abs(np.asarray(decoded).astype(int) - colour).max() <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_plain_images_of_every_kind(kind: str) -> None:
    assert_colour(encode(plain(), kind), RED)


def test_cmyk_jpeg_becomes_rgb() -> None:
    assert_colour(encode(plain("CMYK", (0, 255, 255, 0)), "JPEG", quality=95), (255, 0, 0))


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.full((48, 64), 0x8040, dtype=np.uint16))
    assert_colour(encode(grey, "PNG"), (0x80, 0x80, 0x80), tolerance=0)
    assert_colour(encode(grey, "TIFF"), (0x80, 0x80, 0x80), tolerance=0)


def test_fewer_bits_in_a_16_bit_file_are_scaled_by_their_own_range() -> None:
    known = {
        4095: 255,
        2048: 128,
        200: 200,
        255: 255,
        256: 64,
        1023: 255,
        1024: 64,
        4096: 64,
        2**14 - 1: 255,
        2**14: 64,
        0: 0,
    }
    for brightest, expected in known.items():
        grey = Image.fromarray(np.full((48, 64), brightest, dtype=np.uint16))
        assert_colour(encode(grey, "PNG"), (expected,) * 3, tolerance=0)
    steps = Image.fromarray(np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (48, 1)))
    assert np.ptp(np.asarray(decode_rgb(encode(steps, "TIFF")))) == 255


def test_16_bit_netpbm_is_scaled() -> None:
    data = b"P5 64 48 65535\n" + struct.pack(">H", 0x8040) * 64 * 48
    assert_colour(data, (0x80, 0x80, 0x80), tolerance=0)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("JPEG", ".jfif"),
        ("JPEG2000", ".jp2"),
        ("PPM", ".ppm"),
        ("PPM", ".pbm"),
        ("JPEG2000", ".j2c"),
        ("AVIF", ".avif"),
    ],
)
def test_kinds_beside_the_common_ones(kind: str, suffix: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert suffix in SUFFIXES
    assert_colour(encode(plain(), kind), RED)


def test_what_is_no_image_here_says_what_to_do() -> None:
    unread = {suffix for suffix in UNREAD if suffix not in SUFFIXES}
    assert {".dng", ".nef", ".jxl"} <= unread
    heif = find_spec("pillow_heif") is not None
    assert (".heic" in SUFFIXES) == heif
    assert "pip install pillow-heif" in UNREAD[".heic"]


@pytest.mark.skipif(find_spec("pillow_heif") is None, reason="pillow-heif is not installed")
def test_heic_is_read() -> None:
    assert_colour(encode(plain(), "HEIF", quality=95), RED)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_large_images_are_made_smaller_first(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8))
    image = small.resize((640, 480), Image.Resampling.BICUBIC).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(image, "PNG", exif=exif.tobytes())
    whole = decode_rgb(data, draft_px=30)
    assert whole.size == (480, 640)
    monkeypatch.setattr(images, "LARGE_PIXELS", 640 * 480 - 1)
    reduced = decode_rgb(data, draft_px=30)
    assert decode_rgb(data).size == whole.size, "nobody has said how large it has to be"
    assert reduced.size == (whole.size if mode == "P" else (60, 80))
    sides = [np.asarray(each.resize((30, 40), Image.Resampling.BOX)).astype(int) for each in (whole, reduced)]
    assert np.abs(sides[0] - sides[1]).max() <= 4


def test_16_bit_colour_is_scaled() -> None:
    assert_colour(png_16_bit_rgb(64, 48, (0xC8FF, 0x2800, 0x1E80)), (0xC8, 0x28, 0x1E), tolerance=1)


def test_12_bits_in_a_16_bit_colour_file_are_refused_instead_of_black() -> None:
    for wide in (0x0FFF, 0x0010):
        with pytest.raises(BadImageError, match="16 bits a channel of which 12 are used at most: nearly black"):
            decode_rgb(png_16_bit_rgb(64, 48, (wide, 0x0400, 0)))
    assert_colour(png_16_bit_rgb(64, 48, (0x1000, 0, 0)), (0x10, 0, 0), tolerance=0)


def png_16_bit_rgb(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """Written by hand: Pillow writes no PNG of 16 bits a channel."""
    return png(width, height, (b"\0" + struct.pack(">3H", *colour) * width) * height)


def png(width: int, height: int, lines: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA"])
def test_grey_palette_and_alpha(mode: str) -> None:
    white = {"L": 255, "1": 1, "P": 0, "LA": (255, 255), "RGBA": (255, 255, 255, 255)}[mode]
    image = plain(mode, white)
    if mode == "P":
        image.putpalette([255, 255, 255])
    assert_colour(encode(image, "PNG"), (255, 255, 255), tolerance=0)


def test_transparency_is_laid_on_white() -> None:
    assert_colour(encode(plain("RGBA", (0, 0, 0, 0)), "PNG"), (255, 255, 255), tolerance=0)


@pytest.mark.parametrize("draft_px", [None, 16])
@pytest.mark.parametrize(("orientation", "corner"), [(3, (1, 1)), (6, (1, 0)), (8, (0, 1)), (2, (1, 0))])
def test_exif_rotation_is_applied(orientation: int, corner: tuple[int, int], draft_px: int | None) -> None:
    image = plain(colour=(255, 255, 255), size=(256, 192))
    image.paste((0, 0, 0), (0, 0, 128, 96))  # the dark quarter starts top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_rgb(encode(image, "JPEG", exif=exif, quality=95), draft_px=draft_px)
    turned = orientation in (6, 8)
    assert (decoded.width < decoded.height) == turned
    quarters = np.asarray(decoded.convert("L").resize((2, 2), Image.Resampling.BOX))
    assert int(np.argmin(quarters)) == 2 * corner[1] + corner[0]


def test_draft_keeps_at_least_the_size_asked_for(make_image: Callable[..., Image.Image]) -> None:
    data = encode(make_image(1, size=(1600, 1200)), "JPEG")
    assert decode_rgb(data, draft_px=256).size == (400, 300)
    assert decode_rgb(data, draft_px=300).size == (400, 300)
    assert decode_rgb(data, draft_px=301).size == (800, 600)
    assert decode_rgb(data).size == (1600, 1200)


def test_second_image_of_a_phone_file_is_ignored() -> None:
    data = encode(plain(), "MPO", save_all=True, append_images=[plain(colour=(0, 0, 255))])
    assert_colour(data, RED)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_are_refused(kind: str) -> None:
    data = encode(plain(), kind, save_all=True, append_images=[plain(colour=(0, 0, 255))])
    with pytest.raises(BadImageError, match="animated"):
        decode_rgb(data)


def test_truncated_files_are_refused(make_image: Callable[..., Image.Image]) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encode(make_image(2, size=(320, 240)), kind)
        for share in (0.02, 0.5, 0.9):
            with pytest.raises(BadImageError):
                decode_rgb(data[: int(len(data) * share)], draft_px=64)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello, I am a text", "not an image"),
        (b"\xff\xd8\xff\xe0" + bytes(200), "not an image"),
        (encode(plain(size=(1, 1)), "PNG"), "1 x 1 pixels"),
        (encode(plain(size=(7, 500)), "PNG"), "7 x 500 pixels"),
        (png(12_000, 11_000, b""), "decompression bomb"),
        (png(40_000, 40_000, b""), "decompression bomb"),
        (encode(Image.new("F", (64, 48)), "TIFF"), "32-bit"),
        (encode(Image.new("I", (64, 48)), "TIFF"), "32-bit"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImageError, match=reason) as caught:
        decode_rgb(data)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_is_refused_or_decoded_but_never_crashes(make_image: Callable[..., Image.Image]) -> None:
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"):
        original = np.frombuffer(encode(make_image(3), kind), dtype=np.uint8)
        for _ in range(60):
            damaged = original.copy()
            places = random.integers(0, len(damaged), 8)
            damaged[places] = random.integers(0, 256, 8)
            with contextlib.suppress(BadImageError):
                assert decode_rgb(damaged.tobytes(), draft_px=30).mode == "RGB"


def test_reading_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "locked.jpg").write_bytes(b"x")
    for name, reason in (
        ("missing.jpg", "no such file"),
        ("empty.jpg", "empty file"),
        ("loop.jpg", "cannot be read"),
        (".", "is a folder"),
    ):
        with pytest.raises(BadImageError, match=reason):
            read_image(tmp_path / name)

    def deny(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(BadImageError, match="no permission"):
        read_image(tmp_path / "locked.jpg")


def test_absurdly_large_files_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(BadImageError, match="1024 MiB"):
        read_image(tmp_path / "huge.jpg")


def test_the_largest_image_that_is_read_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    image = encode(Image.new("RGB", (100, 60), (10, 20, 30)), "PNG")
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "6000")
    assert decode_rgb(image).size == (100, 60)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "5999")
    with pytest.raises(BadImageError, match="larger than HANDCLIP_MAX_PIXELS allows: 100 x 60 pixels, more than 5,999"):
        decode_rgb(image)
    for given in ("", "many", "-5", "1e6", "63"):
        monkeypatch.setenv(MAX_PIXELS_VARIABLE, given)
        with pytest.raises(InputError, match="is no number of pixels, as 120000000"):
            decode_rgb(image)
