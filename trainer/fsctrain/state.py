"""All that a resumed run needs, in one object: it goes on as if it had never stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_folder
from fsctrain.distributed import Ranks

FORMAT = 2
FOLDER, TENSORS, VALUES = "state", "state.safetensors", "state.json"


class Stateful(Protocol):
    """What has a state that JSON can hold."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> object: ...


@dataclass
class TrainState:
    """A run between two steps.

    Attributes:
        model: its trainable parameters and its buffers are saved; what is frozen is made again.
        optimizer: its moments.
        parts: the rest that has a state, by name: the scaler of float16, counts, early stopping.
        belongs_to: what it was made with, by name, that the settings do not say: the data that was
            found, the precision. Another run's state is not taken up.
        step: how many steps are done. The schedule and the data's cursor follow from it, since a
            batch is a function of the seed and the step.
    """

    model: nn.Module
    optimizer: Optimizer
    parts: dict[str, Stateful]
    belongs_to: dict[str, str]
    step: int = 0

    def save(self, run: Path, ranks: Ranks) -> Path:
        """Write `run/state/step-…`, whole or not at all, and then remove the one before.

        Called by all ranks, since each has random generators of its own; the first one writes.

        Raises:
            FsckitError: it cannot be written: a full disk, say.
        """
        folder = run / FOLDER / f"step-{self.step:08}"
        generators = ranks.objects(_generators(self.model))
        ranks.on_first(lambda: self._write(folder, generators))
        return folder

    def _write(self, folder: Path, generators: list[dict[str, Tensor]]) -> None:
        if folder.exists():
            return
        tensors = self._tensors()
        for rank, states in enumerate(generators):
            tensors |= {f"generator.{rank}.{name}": state for name, state in states.items()}
        values = {
            "format": FORMAT,
            "step": self.step,
            "ranks": len(generators),
            "belongs_to": self.belongs_to,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        with atomic_folder(folder) as temporary:
            try:
                save_file(tensors, temporary / TENSORS)
            except SafetensorError as error:
                raise FsckitError(f"{folder}: cannot be written ({error})") from None
            (temporary / VALUES).write_text(json.dumps(values), encoding="utf-8")
        for other in saved_states(folder.parent.parent):
            if other != folder:
                shutil.rmtree(other)

    def load(self, folder: Path, ranks: Ranks, *, any_ranks: bool = True) -> None:
        """Take up a saved state.

        Args:
            folder: the state's.
            ranks: those that there are now.
            any_ranks: whether there may be another number of them than there was.

        Raises:
            FsckitError: the folder holds no state of this model and these settings.
        """
        try:
            values = json.loads((folder / VALUES).read_text(encoding="utf-8"))
            with safe_open(folder / TENSORS, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if values["format"] != FORMAT:
                raise FsckitError(
                    f"{folder}: of another version of fsctrain; delete the run's folder, or give "
                    f"another --name"
                )
            if not any_ranks and values["ranks"] != ranks.size:
                raise FsckitError(
                    f"{folder}: a run with --stream goes on with as many ranks as it had, "
                    f"{values['ranks']}, not {ranks.size}"
                )
            for name, mine in self.belongs_to.items():
                if values["belongs_to"][name] != mine:
                    raise FsckitError(
                        f"{folder}: since it was saved the {name} changed; bring back what "
                        f"there was, or give another --name"
                    )
            self._load_model(tensors)
            self._load_optimizer(tensors)
            for name, part in self.parts.items():
                part.load_state_dict(values["parts"][name])
            _set_generators(self.model, tensors, ranks.rank)
            self.step = int(values["step"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            raise FsckitError(
                f"{folder}: not a state of this run ({type(error).__name__}: {error}); delete it, "
                f"or give another --name"
            ) from None

    def _trained(self) -> dict[str, Tensor]:
        """The parameters that are trained, and the buffers, by name."""
        parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        return parameters | dict(self.model.named_buffers())

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": t.detach() for name, t in self._trained().items()}
        state = self.optimizer.state_dict()["state"]
        for number, name in enumerate(self._optimized()):
            for key, value in state.get(number, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        return {name: t.cpu().contiguous() for name, t in tensors.items()}

    def _load_model(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._trained().items():
                saved = tensors[f"model.{name}"]
                if saved.shape != tensor.shape:
                    raise ValueError(f"the shape of {name} differs")
                tensor.copy_(saved)

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        numbers = {name: number for number, name in enumerate(self._optimized())}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, key, parameter = name.split(".", 2)
                state.setdefault(numbers[parameter], {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _optimized(self) -> list[str]:
        """The names of the optimizer's parameters, in its order."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        return [names[id(p)] for group in self.optimizer.param_groups for p in group["params"]]


def saved_states(run: Path) -> list[Path]:
    """The states in a run's folder, the last one at the end."""
    return sorted((run / FOLDER).glob("step-*"))


def _generators(model: nn.Module) -> dict[str, Tensor]:
    """The states of torch's generators on this rank."""
    states = {"cpu": torch.get_rng_state()}
    device = next(model.parameters()).device
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_generators(model: nn.Module, tensors: dict[str, Tensor], rank: int) -> None:
    """A rank that the saved run did not have keeps the generators that its seed gave it."""
    states = {name: tensors.get(f"generator.{rank}.{name}") for name in ("cpu", "cuda")}
    device = next(model.parameters()).device
    if states["cpu"] is not None:
        torch.set_rng_state(states["cpu"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
