"""Reading, decoding and cropping one picture."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fscdata.contract import FsckitError, index_tar
from fsctrain.data.images import UnreadableImageError, crop, crop_box, decode, read_member


def encoded(mode: str, form: str, size: tuple[int, int] = (20, 10)) -> bytes:
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0]) if bands == 1 else (size[1], size[0], bands)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.frombytes(mode, size, pixels.tobytes()).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("1", "PNG"),
        ("RGB", "WEBP"),
    ],
)
def test_formats(mode: str, form: str) -> None:
    image = decode(encoded(mode, form))
    assert image.dtype == torch.uint8 and image.shape == (3, 10, 20)


def test_sixteen_bits() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((10, 20), 0x8000, np.uint16)).save(buffer, "PNG")
    image = decode(buffer.getvalue())
    assert image.dtype == torch.uint8 and image.shape == (3, 10, 20)
    assert set(image.unique().tolist()) <= {127, 128}


def test_palette_with_transparency() -> None:
    """The colours under the transparency are kept, as with RGBA."""
    picture = Image.open(io.BytesIO(encoded("RGB", "PNG"))).quantize(8)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=bytes(range(8)))
    expected = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(decode(buffer.getvalue()), expected)


@pytest.mark.parametrize("right_crc", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "L", "LA"])
def test_flipped_bytes(mode: str, right_crc: bool) -> None:
    """Every byte of the compressed pixels in turn: damaged, or a picture; never a crash."""
    png = encoded(mode, "PNG")
    start = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[start - 4 : start])
    end = start + 4 + length
    damaged = 0
    for place in range(start + 4, end):
        data = bytearray(png)
        data[place] ^= 0xFF
        if right_crc:
            data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start:end]))
        try:
            assert decode(bytes(data)).shape == (3, 10, 20)
        except UnreadableImageError as error:
            assert str(error) == "damaged image"
            damaged += 1
    assert damaged > (0 if right_crc else length // 2)


def huge_png(side: int) -> bytes:
    """A header of side × side pixels and no picture."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc + b"\0\0\0\0IDAT"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image"),
        (b"<html>404</html>", "not an image"),
        (encoded("L", "GIF"), "not an image"),
        (encoded("RGB", "JPEG", (300, 300))[:5000], "damaged image"),
        (encoded("RGB", "PNG", (300, 300))[:5000], "damaged image"),
        (huge_png(10_001), "more than 100 million pixels"),
        (huge_png(60_000), "more than 100 million pixels"),
    ],
)
def test_unreadable(data: bytes, reason: str, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        decode(data)
    assert [str(w.message) for w in recwarn.list] == []


@pytest.mark.parametrize(
    "key", ["000", "folder/000", "ключ", "k" * 150, "./x", "a" * 60 + "/" + "b" * 80]
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_any_name(key: str, form: int, tmp_path: Path) -> None:
    if form == tarfile.USTAR_FORMAT and (not key.isascii() or len(key) == 150):
        pytest.skip("no such names in this format")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in ((f"{key}.jpg", b"picture"), (f"{key}.txt", b"a caption")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (sample,) = index_tar(path).samples
    assert read_member(path, sample.key, sample.image_offset, sample.image_size) == b"picture"
    for key, offset, size in (
        ("other", sample.image_offset, 7),
        (sample.key, sample.image_offset + 512, 7),
        (sample.key, sample.image_offset, 8),
        (sample.key, 10**9, 7),
    ):
        if key == "other" and (not sample.key.isascii() or len(sample.key) > 90):
            continue  # such names stand elsewhere in the tar
        with pytest.raises(FsckitError, match="the tar changed since"):
            read_member(path, key, offset, size)
    with pytest.raises(UnreadableImageError, match="its tar cannot be read"):
        read_member(tmp_path / "none.tar", "000", 512, 7)


def test_crops_stay_inside_and_keep_to_the_scale() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(2000):
        top, left, h, w = crop_box(300, 400, (0.5, 1.0), rng)
        assert 0 <= top <= 300 - h and 0 <= left <= 400 - w
        assert 0.74 < w / h < 1.35
        shares.append(h * w / 120_000)
    assert 0.49 < min(shares) < 0.52 and max(shares) > 0.97
    for height, width in ((1, 500), (500, 1), (1, 1), (30, 400)):
        top, left, h, w = crop_box(height, width, (0.9, 1.0), rng)
        assert h >= 1 and w >= 1 and top + h <= height and left + w <= width
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        assert crop(image, (32, 32), (0.9, 1.0), rng).shape == (3, 32, 32)
