"""From a byte range of a tar to a cropped picture."""

from __future__ import annotations

import io
import math
import os
import tarfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from fscdata.contract import FsckitError, printable

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000
RATIO = (3 / 4, 4 / 3)  # of width to height, as torchvision's RandomResizedCrop
HEADER = tarfile.BLOCKSIZE


class UnreadableImageError(Exception):
    """A picture that cannot be used; its text is the reason under which it is counted."""


def read_member(tar: Path, key: str, offset: int, size: int) -> bytes:
    """The bytes of a tar's member at a known place, its header checked.

    Raises:
        UnreadableImageError: the tar cannot be read.
        FsckitError: there is another member at this place: the tar changed.
    """
    try:
        with tar.open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), HEADER + size, offset - HEADER)
        header = tarfile.TarInfo.frombuf(data[:HEADER], "utf-8", "surrogateescape")
    except OSError:
        raise UnreadableImageError("its tar cannot be read") from None
    except tarfile.HeaderError:
        header = None
    # A long name, or one beyond ASCII, stands in a header of its own before this one.
    named = not key.isascii() or len(key) > 90
    if (
        header is None
        or header.size != size
        or len(data) != HEADER + size
        or not (named or header.name.startswith(f"{key}."))
    ):
        raise FsckitError(
            f"{tar}: sample '{printable(key)}' is no longer where its table says: the tar changed "
            f"since the run began; start the run again to learn which tables to make anew"
        )
    return data[HEADER:]


def decode(data: bytes) -> Tensor:
    """A JPEG, PNG or WebP picture as uint8 [3, H, W].

    Raises:
        UnreadableImageError: not a picture, a damaged one, or one too large to decode.
    """
    with warnings.catch_warnings():
        # PIL warns of sizes below our limit, and torchvision that torchcodec will replace it.
        warnings.simplefilter("ignore")
        image = _open(data)
        try:
            if image.format == "PNG":
                return _pixels(image)
            picture: Tensor = decode_image(
                torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB
            )
        except Exception:  # a stranger's file; PIL raises errors of many kinds
            raise UnreadableImageError("damaged image") from None
    return picture


def _open(data: bytes) -> Image.Image:
    """The picture, of which PIL has read the header alone: it is one, and fits into memory."""
    from PIL import Image  # noqa: PLC0415  # only here, in the workers

    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
        pixels = image.height * image.width
    except Image.DecompressionBombError:
        pixels = MAX_PIXELS + 1
    except Exception:  # as in decode
        raise UnreadableImageError("not an image") from None
    if pixels > MAX_PIXELS:
        raise UnreadableImageError(f"more than {MAX_PIXELS // 10**6} million pixels")
    return image


def _pixels(image: Image.Image) -> Tensor:
    """uint8 [3, H, W], decoded by PIL: torchvision 0.29 dies of a PNG with one wrong byte."""
    if image.mode.startswith("I"):  # grey of 16 bits, which PIL would clip to 8
        grey = torch.from_numpy((np.asarray(image) >> 8).astype(np.uint8))
        return grey.expand(3, -1, -1)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def crop_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop.

    The distribution of torchvision's RandomResizedCrop ("Inception crop", Szegedy et al., 2015):
    a share of the area from `scale`, a ratio of 3/4 to 4/3, ten tries, then the middle.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return int(top), int(left), h, w
    h = min(height, max(1, round(width / RATIO[0])))
    w = min(width, max(1, round(height * RATIO[1])))
    return (height - h) // 2, (width - w) // 2, h, w


def crop(
    image: Tensor, size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> Tensor:
    """A random crop of uint8 [3, H, W], resized (bicubic, antialiased) to uint8 [3, *size]."""
    box = crop_box(image.shape[1], image.shape[2], scale, rng)
    resized: Tensor = transforms.resized_crop(
        image, *box, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return resized
