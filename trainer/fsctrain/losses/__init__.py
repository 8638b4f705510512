"""The losses, one module each, found by file name: `fsc-clip` is fsc_clip.py.

A loss module defines two names:

- `compute(features, global_batch, config) -> dict[str, Tensor]`: "loss" is what the step minimizes;
  the other entries are its unweighted parts, for the metrics. All are scalars, and each is this
  rank's share: summed over the ranks, they are the loss of the whole batch, however its rows are
  spread over ranks.
- `USES`: which of the settings `styles`, `global_weight` and `local_weight` it reads. A run that
  sets one of the others is refused, because the setting would have no effect.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from torch import Tensor

from fscdata.base.errors import FsckitError, first_line
from fsctrain.config import Config
from fsctrain.losses._features import Features, GlobalBatch

__all__ = ["Features", "GlobalBatch", "Loss", "load_loss", "loss_names"]

Loss = Callable[[Features, GlobalBatch, Config], dict[str, Tensor]]

_SETTINGS = ("styles", "global_weight", "local_weight")


def loss_names() -> list[str]:
    """The names of all losses."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def load_loss(config: Config) -> Loss:
    """Import the loss that a run's settings name.

    Raises:
        FsckitError: the loss is unknown, its module breaks the contract above, it ignores a setting
            that is set, or it needs `styles`. The returned function raises it if `compute` returns
            anything but scalars with a "loss".
    """
    if config.loss not in loss_names():
        raise FsckitError(f"`loss`: unknown loss '{config.loss}'; choose {', '.join(loss_names())}")
    # Only the chosen loss is imported, so that a broken one does not affect other runs.
    name = f"{__name__}.{config.loss.replace('-', '_')}"
    file = getattr(find_spec(name), "origin", name)
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise FsckitError(f"{file}: cannot be imported ({first_line(error)})") from error
    compute, uses = getattr(module, "compute", None), getattr(module, "USES", None)
    if not callable(compute):
        raise FsckitError(f"{file}: has no function `compute`; a loss module must define it")
    if not isinstance(uses, set | frozenset) or not uses <= set(_SETTINGS):
        raise FsckitError(
            f"{file}: USES must be the set of settings the loss reads, chosen from "
            f"{', '.join(_SETTINGS)}"
        )
    # An ignored setting would let a user compare two identical runs.
    for setting in _SETTINGS:
        value = getattr(config, setting)
        if value and setting not in uses:
            off = "''" if setting == "styles" else "0"
            raise FsckitError(f"`loss` {config.loss} ignores `{setting}`; set `{setting}` to {off}")
    if "styles" in uses and not config.styles:
        raise FsckitError(f"`loss` {config.loss} needs negatives; set `styles`")
    return partial(_compute, compute, file)


def _compute(
    compute: Loss, file: str, features: Features, global_batch: GlobalBatch, config: Config
) -> dict[str, Tensor]:
    """Call a loss, and check what it returns."""
    parts = compute(features, global_batch, config)
    if not isinstance(parts, dict) or "loss" not in parts:
        raise FsckitError(f"{file}: compute must return a dict with the key 'loss'")
    for name, part in parts.items():
        if not isinstance(part, Tensor) or part.ndim:
            raise FsckitError(f"{file}: compute must return scalar tensors; '{name}' is not one")
    return parts
