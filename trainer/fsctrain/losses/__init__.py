"""The losses, found by module name: `fsc-clip` is fsc_clip.py.

A loss module has one verb, `compute(features, whole, config)`, which gives the loss to minimise
under "loss" and its unweighted parts under their names, scalars all, each this rank's part of a
sum over the ranks; and it says in `USES` which of the settings of hard negatives it heeds.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from torch import Tensor

from fscdata.base.errors import FsckitError
from fsctrain.config import Config
from fsctrain.losses._features import Features, Whole, whole_of_one

__all__ = ["Features", "Loss", "Whole", "load_loss", "loss_names", "whole_of_one"]

Loss = Callable[[Features, Whole, Config], dict[str, Tensor]]

_SETTINGS = ("styles", "global_weight", "local_weight")


def loss_names() -> list[str]:
    """The names of the losses that there are."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def load_loss(config: Config) -> Loss:
    """The loss of a run.

    Raises:
        FsckitError: no such loss, or it has no use for a setting that is given, or needs one
            that is not.
    """
    if config.loss not in loss_names():
        raise FsckitError(
            f"--loss {config.loss}: no such loss (there are: {', '.join(loss_names())})"
        )
    module = importlib.import_module(f"{__name__}.{config.loss.replace('-', '_')}")
    for setting in _SETTINGS:
        value = getattr(config, setting)
        if value and setting not in module.USES:
            option = f"--{setting.replace('_', '-')}"
            off = "''" if setting == "styles" else "0"
            raise FsckitError(f"--loss {config.loss} makes no use of {option}: give {option} {off}")
    if "styles" in module.USES and not config.styles:
        raise FsckitError(f"--loss {config.loss} needs negatives: name their styles with --styles")
    compute: Loss = module.compute
    return compute
