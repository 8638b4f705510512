"""Decode and crop images.

torchvision decodes JPEG and WebP. PIL decodes PNG, since one damaged byte of a PNG crashes the
process in torchvision 0.29. torchvision also warns that decoding will move to torchcodec; its
version is pinned, and the warning is silenced around the decoder.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.functional import InterpolationMode, resized_crop

MAX_PIXELS = 100_000_000
FORMATS = ("JPEG", "PNG", "WEBP")
RATIO = (3 / 4, 4 / 3)  # of width to height, as in torchvision's RandomResizedCrop
CROP_TRIES = 10
DRAWS = 2 * CROP_TRIES + 2  # maximum number of random numbers per crop

# JPEG markers (ITU T.81, table B.1): baseline, extended and progressive frames, and the segments
# that may precede them: tables, restart interval, application data, comments.
_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
_SEGMENTS = frozenset((0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
_TWO = struct.Struct(">HH")

Buffer: TypeAlias = "bytes | bytearray | memoryview"
Scale: TypeAlias = tuple[float, float]
Draws: TypeAlias = NDArray[np.float64]
Crop: TypeAlias = Callable[[Buffer, tuple[int, int], Scale, Draws], Tensor]


class UnreadableImageError(Exception):
    """An image cannot be used; the message is the reason that is counted."""


def crop_draws(seed: int, epoch: int, positions: range) -> Draws:
    """Random numbers in [0, 1) for the crops at these positions of an epoch's order.

    They depend only on the seed, the epoch and the position. Philox is counter-based, so a batch's
    numbers can be drawn directly, wherever it begins.

    Returns:
        [len(positions), at least DRAWS].
    """
    blocks = -(-DRAWS // 4)  # Philox's counter advances by blocks of four numbers
    bits = np.random.Philox(np.random.SeedSequence([seed, epoch])).advance(positions.start * blocks)
    return np.random.Generator(bits).random((len(positions), 4 * blocks))


def crop_uint8(data: Buffer, size: tuple[int, int], scale: Scale, draws: Draws) -> Tensor:
    """A random crop of an image, resized (bicubic, antialiased) to uint8 [3, *size].

    Its pixels are stored as [*size, 3] in memory.

    Raises:
        UnreadableImageError: not an image, a damaged one, or one too large to decode.
    """
    image = decode(data)
    top, left, h, w = crop_box(image.shape[1], image.shape[2], scale, draws)
    # The decoder's pixels stay stored as [H, W, 3]: a transpose takes as long as the resize.
    part = image.permute(1, 2, 0)[None, top : top + h, left : left + w].contiguous()
    return F.interpolate(part.permute(0, 3, 1, 2), size, mode="bicubic", antialias=True)[0]


def crop_pil(data: Buffer, size: tuple[int, int], scale: Scale, draws: Draws) -> Tensor:
    """Like `crop_uint8`, with the pixels of open_clip's training transform: PIL decodes, crops,
    resizes (bicubic) and converts to RGB, in this order.
    """
    with _no_warnings():
        image = _open(data)
        box = crop_box(image.height, image.width, scale, draws)
        try:
            cropped = resized_crop(image, *box, list(size), InterpolationMode.BICUBIC)
            pixels = np.array(cropped.convert("RGB"))
        except Exception:  # an untrusted file; PIL raises many kinds of errors
            raise UnreadableImageError("damaged image") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


CROPS: dict[str, Crop] = {"uint8": crop_uint8, "pil": crop_pil}


def decode(data: Buffer) -> Tensor:
    """A JPEG, PNG or WebP image as uint8 [3, H, W].

    Raises:
        UnreadableImageError: not an image, a damaged one, or one too large to decode.
    """
    with _no_warnings():
        pixels = _jpeg_pixels(data)
        if pixels is None:
            image = _open(data)
        else:
            _check_pixels(pixels)
        try:
            if pixels is None and image.format == "PNG":
                return _pixels(image)
            encoded = torch.frombuffer(data, dtype=torch.uint8)
            decoded: Tensor = decode_image(encoded, mode=ImageReadMode.RGB)
        except Exception:  # as in crop_pil
            raise UnreadableImageError("damaged image") from None
    return decoded


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Silence PIL's warning about sizes below our limit, torchvision's about torchcodec and torch's
    about read-only bytes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _jpeg_pixels(data: Buffer) -> int | None:
    """Height · width of a JPEG from its frame header, found the way libjpeg does.

    None if it is not a JPEG or has an unusual header. PIL takes ten times as long.
    """
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAMES:
            height, width = _TWO.unpack_from(data, place + 5)
            return int(height * width)
        if marker not in _SEGMENTS:
            return None
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def _check_pixels(pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise UnreadableImageError(f"more than {MAX_PIXELS // 10**6} million pixels")


def _open(data: Buffer) -> Image.Image:
    """Open an image with PIL and check its size, without decoding its pixels."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        pixels = image.height * image.width
    except Image.DecompressionBombError:
        pixels = MAX_PIXELS + 1
    except Exception:  # as in crop_pil
        raise UnreadableImageError("not an image") from None
    _check_pixels(pixels)
    return image


def _pixels(image: Image.Image) -> Tensor:
    """uint8 [3, H, W], decoded by PIL."""
    if image.mode.startswith("I"):  # 16-bit grey, whose values PIL would clip at 255
        grey = torch.from_numpy((np.asarray(image) >> 8).astype(np.uint8))
        return grey.expand(3, -1, -1)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def crop_box(height: int, width: int, scale: Scale, draws: Draws) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop, from DRAWS numbers in [0, 1).

    Distributed as in torchvision's RandomResizedCrop ("Inception crop", Szegedy et al., 2015):
    a share of the area from `scale` and a ratio of 3/4 to 4/3; after ten tries that do not fit the
    image, its centre.
    """
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    u = draws.tolist()
    for i in range(CROP_TRIES):
        area = height * width * (scale[0] + u[2 * i] * (scale[1] - scale[0]))
        ratio = math.exp(low + u[2 * i + 1] * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            down, right = u[2 * CROP_TRIES : DRAWS]
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    h = min(height, max(1, round(width / RATIO[0])))
    w = min(width, max(1, round(height * RATIO[1])))
    return (height - h) // 2, (width - w) // 2, h, w
