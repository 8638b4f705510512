"""Decoding and cropping one image."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from fsctrain.data.images import (
    CROPS,
    DRAWS,
    UnreadableImageError,
    _jpeg_pixels,
    crop_box,
    crop_draws,
    crop_pil,
    crop_uint8,
    decode,
)


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
def test_decodes_every_format(mode: str, form: str) -> None:
    image = decode(bytearray(encoded(mode, form)))
    assert image.dtype == torch.uint8 and image.shape == (3, 10, 20)


def test_decodes_16_bit_grey() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((10, 20), 0x8000, np.uint16)).save(buffer, "PNG")
    image = decode(bytearray(buffer.getvalue()))
    assert image.dtype == torch.uint8 and image.shape == (3, 10, 20)
    assert set(image.unique().tolist()) <= {127, 128}


def test_keeps_the_colours_under_transparency() -> None:
    """With a palette, as with RGBA."""
    image = Image.open(io.BytesIO(encoded("RGB", "PNG"))).quantize(8)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=bytes(range(8)))
    expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(decode(bytearray(buffer.getvalue())), expected)


@pytest.mark.parametrize("right_crc", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "L", "LA"])
def test_survives_flipped_bytes(mode: str, right_crc: bool) -> None:
    """Each flipped byte of the compressed pixels gives an image or an error, never a crash."""
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
            assert decode(data).shape == (3, 10, 20)
        except UnreadableImageError as error:
            assert str(error) == "damaged image"
            damaged += 1
    assert damaged > (0 if right_crc else length // 2)


def huge_png(side: int) -> bytes:
    """A PNG header for side × side pixels, without image data."""
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
def test_refuses_unreadable_images(
    data: bytes, reason: str, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        decode(bytearray(data))
    assert [str(w.message) for w in recwarn.list] == []


def test_crops_stay_inside_the_image_and_the_scale() -> None:
    draws = crop_draws(0, 0, range(2000))
    shares = []
    for numbers in draws:
        top, left, h, w = crop_box(300, 400, (0.5, 1.0), numbers)
        assert 0 <= top <= 300 - h and 0 <= left <= 400 - w
        assert 0.74 < w / h < 1.35
        shares.append(h * w / 120_000)
    assert 0.49 < min(shares) < 0.52 and max(shares) > 0.97
    for height, width in ((1, 500), (500, 1), (1, 1), (30, 400)):
        top, left, h, w = crop_box(height, width, (0.9, 1.0), draws[0])
        assert h >= 1 and w >= 1 and top + h <= height and left + w <= width
        png = bytearray(encoded("RGB", "PNG", (width, height)))
        for crop in CROPS.values():
            image = crop(png, (32, 48), (0.9, 1.0), draws[0])
            assert image.shape == (3, 32, 48) and image.dtype == torch.uint8


def test_crop_boxes_are_distributed_as_in_torchvision() -> None:
    """Means and spreads of 4,000 boxes, for scales that often need a second try."""
    scale = (0.3, 1.0)
    torch.manual_seed(0)
    image = torch.empty(3, 300, 400)
    get = transforms.RandomResizedCrop.get_params
    theirs = np.array([get(image, list(scale), [3 / 4, 4 / 3]) for _ in range(4000)])
    ours = np.array([crop_box(300, 400, scale, d) for d in crop_draws(1, 2, range(4000))])
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 4  # pixels; five standard errors
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.08)


def test_draws_depend_only_on_seed_epoch_and_position() -> None:
    whole = crop_draws(3, 1, range(40))
    assert whole.shape[1] >= DRAWS and whole.min() >= 0 and whole.max() < 1
    assert np.array_equal(
        np.concatenate([crop_draws(3, 1, range(i, i + 8)) for i in range(0, 40, 8)]), whole
    )
    assert len(np.unique(whole)) == whole.size
    assert not np.isin(whole, crop_draws(3, 2, range(40))).any()
    assert not np.isin(whole, crop_draws(4, 1, range(40))).any()
    assert crop_draws(3, 1, range(5, 5)).shape == (0, whole.shape[1])


def torchvision_crop(data: bytes, box: tuple[int, int, int, int]) -> torch.Tensor:
    """Decoded and resized by torchvision's public functions."""
    image = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    return v2.functional.resized_crop(
        image, *box, [32, 48], transforms.InterpolationMode.BICUBIC, antialias=True
    )


@pytest.mark.parametrize("size", [(20, 10), (300, 400), (401, 299)])
@pytest.mark.parametrize(("mode", "form"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "WEBP")])
def test_crop_uint8_equals_torchvision(mode: str, form: str, size: tuple[int, int]) -> None:
    data = encoded(mode, form, size)
    for draws in crop_draws(1, 0, range(5)):
        box = crop_box(size[1], size[0], (0.5, 1.0), draws)
        found = crop_uint8(bytearray(data), (32, 48), (0.5, 1.0), draws)
        assert torch.equal(found, torchvision_crop(data, box))


@pytest.mark.parametrize("size", [(20, 10), (300, 400), (401, 299)])
@pytest.mark.parametrize(
    ("mode", "form"), [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("LA", "PNG")]
)
def test_crop_pil_equals_open_clip(
    mode: str, form: str, size: tuple[int, int], monkeypatch
) -> None:
    """open_clip's training transform with our crop boxes."""
    data = encoded(mode, form, size)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    theirs = open_clip.image_transform(
        (32, 48), is_train=True, mean=mean, std=std, aug_cfg={"scale": (0.5, 1.0)}
    )
    for draws in crop_draws(1, 0, range(5)):
        box = crop_box(size[1], size[0], (0.5, 1.0), draws)
        monkeypatch.setattr(transforms.RandomResizedCrop, "get_params", lambda *_, box=box: box)
        found = crop_pil(bytearray(data), (32, 48), (0.5, 1.0), draws)
        normal = transforms.functional.normalize(found / 255, mean, std)
        torch.testing.assert_close(normal, theirs(Image.open(io.BytesIO(data))))
        plain = Image.open(io.BytesIO(data))
        top, left, h, w = box
        plain = plain.crop((left, top, left + w, top + h)).resize(
            (48, 32), Image.Resampling.BICUBIC
        )
        assert np.array_equal(found.permute(1, 2, 0).numpy(), np.array(plain.convert("RGB")))


@pytest.mark.parametrize("progressive", [False, True])
def test_reads_a_jpeg_s_size_from_its_header(progressive: bool) -> None:
    """Like PIL, past a comment, a profile and a preview inside Exif."""
    preview = encoded("RGB", "JPEG", (8, 6))
    exif = Image.Exif()
    exif[0x9286] = preview
    buffer = io.BytesIO()
    Image.open(io.BytesIO(encoded("RGB", "PNG", (61, 43)))).save(
        buffer,
        "JPEG",
        progressive=progressive,
        exif=exif,
        comment=preview,
        icc_profile=b"p" * 70_000,
    )
    data = bytearray(buffer.getvalue())
    assert _jpeg_pixels(data) == 61 * 43 and decode(data).shape == (3, 43, 61)
    frame = data.rindex(bytes([0xFF, 0xC2 if progressive else 0xC0, 0, 17, 8]))
    data[frame + 5 : frame + 9] = struct.pack(">HH", 10_001, 10_000)
    with pytest.raises(UnreadableImageError, match="more than 100 million pixels"):
        decode(data)


@pytest.mark.parametrize("cut", range(2, 700, 37))
def test_a_truncated_jpeg_is_an_image_or_an_error(cut: int) -> None:
    data = bytearray(encoded("RGB", "JPEG"))
    try:
        assert decode(data[:cut]).shape == (3, 10, 20)
    except UnreadableImageError as error:
        assert str(error) in ("damaged image", "not an image")
    odd = data[:2] + b"\xff" + data[2:]  # the standard allows fill bytes
    assert _jpeg_pixels(odd) is None and torch.equal(decode(odd), decode(data))


@pytest.mark.parametrize("crop", [crop_uint8, crop_pil])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html>404</html>", "not an image"),
        (encoded("RGB", "JPEG", (300, 300))[:5000], "damaged image"),
        (huge_png(10_001), "more than 100 million pixels"),
    ],
)
def test_crops_refuse_unreadable_images(crop, data: bytes, reason: str, recwarn) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        crop(bytearray(data), (32, 32), (0.9, 1.0), crop_draws(0, 0, range(1))[0])
    assert not recwarn.list
