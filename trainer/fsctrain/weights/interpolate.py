"""WiSE-FT: between the weights before and those after the fine-tuning.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

from torch import Tensor

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_folder
from fsctrain.checkpoint import weights_digest, write_weights
from fsctrain.weights.load import (
    ALPHA,
    Checkpoint,
    find_checkpoint,
    load_base,
    load_tuned,
    refuse_to_overwrite,
)


def interpolate(
    path: Path, alphas: str, out: Path | None = None, pretrained: str | None = None
) -> list[Path]:
    """Write a whole checkpoint for each alpha: (1 - alpha)·pretrained + alpha·fine-tuned.

    Args:
        path: a run, or a checkpoint's folder, whole or LoRA's.
        alphas: as `parse_alphas` reads them.
        out: the folder of the folders `alpha-0.30`; None for `interpolated` beside the checkpoint.
        pretrained: the weights before, where the run does not say or they have moved.

    Returns:
        The new folders, each of which appears whole or not at all.

    Raises:
        FsckitError: no such checkpoint or weights, two that do not fit, or a folder that is there.
    """
    shares = parse_alphas(alphas)
    checkpoint = find_checkpoint(path)
    if checkpoint.alpha is not None:
        raise FsckitError(f"{path}: interpolated already; give the run's own checkpoint")
    parent = out or checkpoint.folder.parent / "interpolated"
    folders = {share: parent / _name(share) for share in shares}
    for folder in folders.values():
        refuse_to_overwrite(folder)

    clip = load_tuned(checkpoint, pretrained)
    tuned = clip.model.state_dict()
    before = _before(checkpoint, pretrained, tuned, clip.quick_gelu)
    for share, folder in folders.items():
        state = mix(before, tuned, float(share))
        with atomic_folder(folder) as temporary:
            write_weights(temporary, clip, state, {ALPHA: str(share)})
    return list(folders.values())


def mix(
    before: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """(1 - alpha)·before + alpha·tuned, in float32; whole numbers are the fine-tuned ones.

    0 and 1 give the two ends bit for bit.
    """
    if alpha in (0, 1):
        return dict(tuned if alpha else before)
    return {
        name: ((1 - alpha) * before[name].float() + alpha * after.float()).to(after.dtype)
        if after.is_floating_point()
        else after
        for name, after in tuned.items()
    }


def parse_alphas(text: str) -> list[Decimal]:
    """`0.5`, `0.3,0.5`, or `start:stop:step`: `0:1:0.1` is eleven numbers, the stop included
    where a step meets it.

    Raises:
        FsckitError: no such words, or numbers that are not from 0 to 1 in steps of 0.0001 or more.
    """
    wrong = FsckitError(
        f"--alpha {text}: numbers from 0 to 1 with four decimals or less are wanted: one, several "
        f"by comma, or start:stop:step"
    )
    separator = ":" if ":" in text else ","
    try:
        numbers = [Decimal(part.strip()) for part in text.split(separator)]
    except InvalidOperation:
        raise wrong from None
    if not all(n.is_finite() and 0 <= n <= 1 and n == round(n, 4) for n in numbers):
        raise wrong
    if separator == ":":
        if len(numbers) != 3 or numbers[2] == 0 or numbers[0] > numbers[1]:
            raise wrong
        start, stop, step = numbers
        numbers = [start + i * step for i in range(int((stop - start) / step) + 1)]
    return list(dict.fromkeys(map(abs, numbers)))  # abs: -0 is 0


def _before(
    checkpoint: Checkpoint, pretrained: str | None, tuned: Mapping[str, Tensor], quick_gelu: bool
) -> dict[str, Tensor]:
    """The weights before the fine-tuning, once they are found to fit those after it."""
    clip = load_base(checkpoint, pretrained)
    state: dict[str, Tensor] = clip.model.state_dict()
    shapes, wanted = ({n: t.shape for n, t in s.items()} for s in (state, tuned))
    if shapes != wanted or clip.quick_gelu != quick_gelu:
        raise FsckitError(
            f"{checkpoint.folder}: fine-tuned from another model than the pretrained weights are "
            f"of; give the right ones with --pretrained"
        )
    if checkpoint.base_digest not in (None, weights_digest(state)):
        raise FsckitError(
            f"{checkpoint.folder}: fine-tuned from other weights than the pretrained ones that "
            f"were found; give the right ones with --pretrained"
        )
    return state


def _name(alpha: Decimal) -> str:
    short = f"{alpha:.2f}"
    return f"alpha-{short if Decimal(short) == alpha else alpha.normalize()}"
