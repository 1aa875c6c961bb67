"""A picture means the same pixels in whatever form its file says them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_numba.data import digits, image_files
from lstm_numba.errors import DataError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

Pixels = np.ndarray[Any, Any]

#: EXIF's orientation -> where the first row and the first column of what is stored are seen; the standard's
#: own table (JEITA CP-3451, tag 274).
SEEN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.fixture(scope="module")
def digit() -> Pixels:
    """A digit that no turn leaves as it is, black around it, of 16 grey levels."""
    pixels = digits.draw("test", np.array([4]))[0][0] // 17 * 17
    pixels[:2] = pixels[-2:] = 0
    pixels[:, :2] = pixels[:, -2:] = 0
    return pixels


def stored(upright: Pixels, orientation: int) -> Pixels:
    """What a camera stores of an upright picture, pixel by pixel as the standard's table says."""
    row_seen, column_seen = SEEN[orientation]
    height, width = upright.shape
    out = np.zeros((height, width) if row_seen in ("top", "bottom") else (width, height), upright.dtype)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            from_edge = {row_seen: row, column_seen: column}
            y = from_edge["top"] if "top" in from_edge else height - 1 - from_edge["bottom"]
            x = from_edge["left"] if "left" in from_edge else width - 1 - from_edge["right"]
            out[row, column] = upright[y, x]
    return out


@pytest.mark.parametrize("form", ["jpg", "png", "rgba.png", "16.png"])
@pytest.mark.parametrize("orientation", list(SEEN))
def test_orientation(tmp_path: Path, digit: Pixels, orientation: int, form: str) -> None:
    """In the form of 28 by 28 and in another, which is scaled."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide = np.pad(np.kron(digit, np.ones((4, 4), np.uint8)), ((10, 40), (30, 0)))
    for upright in (digit, wide):
        found = []
        for number in (1, orientation):
            array = stored(upright, number)
            if form == "rgba.png":
                array = np.stack([array] * 3 + [np.full_like(array, 255)], axis=-1)
            elif form == "16.png":
                array = array.astype(np.uint16) * 257
            path = tmp_path / f"{number}.{form}"
            Image.fromarray(array).save(path, quality=100, **({"exif": exif} if number != 1 else {}))
            found.append(image_files.read_picture(path))
        turned = f"rotated upright, because its EXIF orientation is {orientation}"
        assert (turned in found[1].changes) == (orientation != 1)
        difference = np.abs(found[1].pixels.astype(int) - found[0].pixels)
        # JPEG's blocks lie otherwise on what is turned; nothing else differs.
        assert difference.max() <= (16 if form == "jpg" else 0)
        if upright is digit and form != "jpg":
            np.testing.assert_array_equal(found[1].pixels, digit)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\1", b"Exif\0\0garbage" * 9])
def test_damaged_exif_says_nothing(tmp_path: Path, digit: Pixels, exif: bytes) -> None:
    Image.fromarray(digit).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(image_files.read_picture(tmp_path / "a.png").pixels, digit)
    tag = struct.pack(">HHII", 0x0112, 3, 1, 9 << 16)  # an orientation that there is not
    Image.fromarray(digit).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1" + tag + bytes(4))
    np.testing.assert_array_equal(image_files.read_picture(tmp_path / "a.png").pixels, digit)


def png(array: Pixels, depth: int, kind: int, **chunks: bytes) -> bytes:
    """A PNG of samples (height, width) or (height, width, channels); Pillow writes few of its forms."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = array.shape[:2]
    rows = b""
    for row in array.reshape(height, -1):
        bits = "".join(format(int(sample), f"0{depth}b") for sample in row)
        bits += "0" * (-len(bits) % 8)
        rows += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    extra = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def two(digit: Pixels) -> Pixels:
    """The digit in ink and paper only: what a key of transparency can say."""
    return (digit > 100).astype(np.int64)


def rgb(array: Pixels) -> Pixels:
    return np.stack([array] * 3, axis=-1)


#: Form -> a file of the digit.

PNGS: dict[str, Callable[[Pixels], bytes]] = {
    "grey, 4 bits": lambda d: png(d // 17, 4, 0),
    "grey, 16 bits": lambda d: png(d.astype(int) * 257, 16, 0),
    "rgb, 16 bits": lambda d: png(rgb(d.astype(int) * 257), 16, 2),
    "grey and alpha, 16 bits": lambda d: png(
        np.stack([d.astype(int) * 0 + 65535, d.astype(int) * 257], -1), 16, 4
    ),
    "rgb and alpha, 16 bits": lambda d: png(
        np.dstack([rgb(d.astype(int) * 0 + 65535), d.astype(int) * 257]), 16, 6
    ),
    "palette": lambda d: png(d // 17, 4, 3, PLTE=bytes(n * 17 for n in range(16) for _ in "rgb")),
    "palette backwards": lambda d: png(
        15 - d // 17, 4, 3, PLTE=bytes(n * 17 for n in range(15, -1, -1) for _ in "rgb")
    ),
    "palette, transparent": lambda d: png(
        d // 17, 4, 3, PLTE=bytes([255] * 48), tRNS=bytes(n * 17 for n in range(16))
    ),
}
#: The same of ink (1) and paper (0), light ink on paper that a key makes transparent.
KEYED: dict[str, Callable[[Pixels], bytes]] = {
    "1 bit": lambda t: png(t, 1, 0, tRNS=struct.pack(">H", 0)),
    "2 bits": lambda t: png(3 - t, 2, 0, tRNS=struct.pack(">H", 3)),
    "4 bits": lambda t: png(15 - t, 4, 0, tRNS=struct.pack(">H", 15)),
    "8 bits": lambda t: png(255 - t, 8, 0, tRNS=struct.pack(">H", 255)),
    "16 bits": lambda t: png(65535 - 300 * t, 16, 0, tRNS=struct.pack(">H", 65535)),
    "rgb": lambda t: png(rgb(255 - t), 8, 2, tRNS=struct.pack(">HHH", 255, 255, 255)),
    "rgb, 16 bits": lambda t: png(rgb(65535 - 300 * t), 16, 2, tRNS=struct.pack(">HHH", *[65535] * 3)),
    "palette": lambda t: png(t, 1, 3, PLTE=bytes([255] * 6), tRNS=b"\0\xff"),
}


@pytest.mark.parametrize("form", list(PNGS))
def test_forms_of_png(tmp_path: Path, digit: Pixels, form: str) -> None:
    (tmp_path / "a.png").write_bytes(PNGS[form](digit))
    picture = image_files.read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, digit)
    assert picture.changes == ()


@pytest.mark.parametrize("form", list(KEYED))
def test_paper_by_a_key(tmp_path: Path, digit: Pixels, form: str) -> None:
    """Near-white ink on paper of white that is transparent: without the key nothing would be seen."""
    (tmp_path / "a.png").write_bytes(KEYED[form](two(digit)))
    pixels = image_files.read_picture(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(pixels > 127, two(digit) == 1)
    assert pixels[two(digit) == 0].max() == 0


def test_forms_of_others(tmp_path: Path, digit: Pixels) -> None:
    ink = digit.astype(int)
    big = (ink * 257).astype(">u2").tobytes()
    (tmp_path / "a.ppm").write_bytes(b"P5 28 28 65535\n" + big)
    (tmp_path / "b.ppm").write_bytes(b"P5 28 28 15\n" + (digit // 17).tobytes())
    (tmp_path / "c.ppm").write_bytes(b"P6 28 28 65535\n" + rgb(ink * 257).astype(">u2").tobytes())
    header = struct.pack("<IiiHHIIiiII", 40, 28, -28, 1, 32, 0, 0, 0, 0, 0, 0)  # rows from the top
    dense = np.dstack([rgb(digit), np.zeros_like(digit)])  # a fourth byte that means nothing
    (tmp_path / "d.bmp").write_bytes(
        b"BM" + struct.pack("<IHHI", 54 + dense.size, 0, 0, 54) + header + dense.tobytes()
    )
    for name in ("a.ppm", "b.ppm", "c.ppm", "d.bmp"):
        np.testing.assert_array_equal(image_files.read_picture(tmp_path / name).pixels, digit)
    black = np.dstack([np.zeros((28, 28, 3), np.uint8), 255 - digit])
    Image.fromarray(black, "CMYK").save(tmp_path / "e.jpg", quality=100)
    difference = image_files.read_picture(tmp_path / "e.jpg").pixels.astype(int) - digit
    assert np.abs(difference).max() <= 8
    (tmp_path / "f.pfm").write_bytes(b"Pf\n28 28\n-1.0\n" + (ink / 255).astype("<f4").tobytes())
    with pytest.raises(DataError, match="floating-point"):
        image_files.read_picture(tmp_path / "f.pfm")


def test_of_several_frames_the_first(tmp_path: Path, digit: Pixels) -> None:
    first, second = Image.fromarray(digit), Image.fromarray(255 - digit)
    first.save(tmp_path / "a.png", save_all=True, append_images=[second, second])
    picture = image_files.read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, digit)
    assert picture.changes == ("the first of 3 frames",)
    first.convert("RGB").save(
        tmp_path / "b.jpg", format="MPO", save_all=True, append_images=[second.convert("RGB")], quality=100
    )
    picture = image_files.read_picture(tmp_path / "b.jpg")
    assert np.abs(picture.pixels.astype(int) - digit).max() <= 16
    assert picture.changes == ()
