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

from torch import Tensor

from fscdata.base.errors import FsckitError
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
        FsckitError: the loss is unknown, ignores a setting that is set, or needs `styles`.
    """
    if config.loss not in loss_names():
        raise FsckitError(f"`loss`: unknown loss '{config.loss}'; choose {', '.join(loss_names())}")
    # Only the chosen loss is imported, so that a broken one does not affect other runs.
    module = importlib.import_module(f"{__name__}.{config.loss.replace('-', '_')}")
    # An ignored setting would let a user compare two identical runs.
    for setting in _SETTINGS:
        value = getattr(config, setting)
        if value and setting not in module.USES:
            off = "''" if setting == "styles" else "0"
            raise FsckitError(f"`loss` {config.loss} ignores `{setting}`; set `{setting}` to {off}")
    if "styles" in module.USES and not config.styles:
        raise FsckitError(f"`loss` {config.loss} needs negatives; set `styles`")
    compute: Loss = module.compute
    return compute
