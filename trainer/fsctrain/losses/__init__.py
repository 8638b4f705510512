"""The losses, one module each, found by name: `fsc-clip` is fsc_clip.py.

A loss may also be a file of the user's, given by its path, or an entry point of an installed
package in the group `fsctrain.losses`.

A loss module defines two names:

- `compute(features, global_batch, config) -> dict[str, Tensor]`: "loss" is what the step minimizes;
  the other entries are its unweighted parts, for the metrics. All are scalars, and each is this
  rank's share: summed over the ranks, they are the loss of the whole batch, however its rows are
  spread over ranks.
- `USES`: which of the settings `styles`, `global_weight` and `local_weight` it reads. A run that
  sets one of the others is refused, because the setting would have no effect.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from fscdata.base.errors import FsckitError
from fscdata.base.plugins import load_plugin
from fsctrain.config import Config
from fsctrain.losses._features import Features, GlobalBatch

__all__ = ["Features", "GlobalBatch", "Loss", "load_loss"]

_SETTINGS = ("styles", "global_weight", "local_weight")


@dataclass(frozen=True)
class Loss:
    """A module's `compute`, whose results are checked.

    Attributes:
        compute: the function.
        file: its module, for messages.
        digest: SHA-256 of the module's file; None for a loss of fsckit.
    """

    compute: Callable[[Features, GlobalBatch, Config], dict[str, Tensor]]
    file: str
    digest: str | None

    def __call__(
        self, features: Features, global_batch: GlobalBatch, config: Config
    ) -> dict[str, Tensor]:
        """The loss and its parts.

        Raises:
            FsckitError: the module returned anything but scalars with a "loss".
        """
        parts = self.compute(features, global_batch, config)
        if not isinstance(parts, dict) or "loss" not in parts:
            raise FsckitError(f"{self.file}: compute must return a dict with the key 'loss'")
        for name, part in parts.items():
            if not isinstance(part, Tensor) or part.ndim:
                raise FsckitError(
                    f"{self.file}: compute must return scalar tensors; '{name}' is not one"
                )
        return parts


def load_loss(config: Config) -> Loss:
    """Import the loss that a run's settings name.

    Raises:
        FsckitError: the loss is unknown, its module breaks the contract above, it ignores a setting
            that is set, or it needs `styles`.
    """
    plugin = load_plugin(config.loss, sys.modules[__name__], "loss")
    file = plugin.file
    compute, uses = (getattr(plugin.module, name, None) for name in ("compute", "USES"))
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
    return Loss(compute, file, plugin.digest)
