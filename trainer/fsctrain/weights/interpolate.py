"""WiSE-FT: interpolate between pretrained and fine-tuned weights.

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
from fsctrain.model.named import HUB
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
    """Write a full checkpoint for each alpha: (1 - alpha)·pretrained + alpha·fine-tuned.

    Args:
        path: a run's or a checkpoint's folder, full or LoRA.
        alphas: the shares of the fine-tuned weights, in the syntax of `parse_alphas`.
        out: the parent folder of `alpha-0.30`, …; None for `interpolated` beside the checkpoint.
        pretrained: the pretrained weights, if the run does not record them or they have moved.

    Returns:
        The new folders, each written atomically.

    Raises:
        FsckitError: checkpoint or weights not found, weights that do not match, or an existing
            folder.
    """
    shares = parse_alphas(alphas)  # Decimals, because 0:1:0.1 must reach exactly 1
    checkpoint = find_checkpoint(path)
    if checkpoint.alpha is not None:
        raise FsckitError(f"{path}: already interpolated; use the run's own checkpoint")
    if out is None and str(path).startswith(HUB):
        raise FsckitError(f"{path}: its folder is the hub's cache; choose another with `out`")
    parent = out or checkpoint.folder.parent / "interpolated"
    folders = {share: parent / _name(share) for share in shares}
    # Check all folders first, not after minutes of work.
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
    """(1 - alpha)·before + alpha·tuned, computed in float32; integer tensors come from `tuned`.

    Alpha 0 and 1 return the inputs bit for bit.
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
    """Parse `0.5`, a list `0.3,0.5`, or a range `start:stop:step`.

    A range includes its stop if a step lands on it: `0:1:0.1` is eleven numbers.

    Raises:
        FsckitError: invalid syntax, or a number outside [0, 1] or with over four decimals.
    """
    wrong = FsckitError(
        f"`alphas` {text}: expected a number, a comma-separated list, or start:stop:step, each "
        f"from 0 to 1 with at most four decimals"
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
    """The pretrained weights, checked to match the fine-tuned ones."""
    clip = load_base(checkpoint, pretrained)
    state: dict[str, Tensor] = clip.model.state_dict()
    shapes, expected = ({n: t.shape for n, t in s.items()} for s in (state, tuned))
    if shapes != expected or clip.quick_gelu != quick_gelu:
        raise FsckitError(
            f"{checkpoint.folder}: the pretrained weights belong to another model; pass the ones "
            f"it was fine-tuned from as `pretrained`"
        )
    if checkpoint.base_digest not in (None, weights_digest(state)):
        raise FsckitError(
            f"{checkpoint.folder}: not fine-tuned from these pretrained weights; pass the right "
            f"ones as `pretrained`"
        )
    return state


def _name(alpha: Decimal) -> str:
    short = f"{alpha:.2f}"
    return f"alpha-{short if Decimal(short) == alpha else alpha.normalize()}"
