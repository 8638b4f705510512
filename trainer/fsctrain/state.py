"""Everything a resume needs, in one object: a resumed run equals an uninterrupted one."""

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

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.files import atomic_folder
from fsctrain.distributed import Ranks
from fsctrain.saved_states import FOLDER, saved_states

FORMAT = 3
TENSORS, VALUES = "state.safetensors", "state.json"


class Stateful(Protocol):
    """A part of a run whose state is JSON."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> object: ...


@dataclass
class TrainState:
    """The state of a run between two steps.

    Frozen weights are not saved but recreated from the settings, so that a LoRA's state is small.
    `belongs_to` has their digest, because weights of the same name may differ.

    Attributes:
        model: its trainable parameters and its buffers are saved.
        optimizer: its moments are saved.
        parts: other stateful parts by name: the float16 scaler, counts, early stopping.
        belongs_to: what the settings do not fully determine, by name: the data's digest, the
            precision. A state with other values is refused.
        step: number of steps done; also the position in the schedule and the data, since a batch
            depends only on the seed and the step.
        saved: the last saved state; None before the first.
    """

    model: nn.Module
    optimizer: Optimizer
    parts: dict[str, Stateful]
    belongs_to: dict[str, str]
    step: int = 0
    saved: Path | None = None

    def save(self, run: Path, ranks: Ranks) -> None:
        """Write `run/state/step-…` atomically, then remove the previous state.

        All ranks call it, since each has its own random generators; the first rank writes.

        Raises:
            FsckitError: it cannot be written, for example because the disk is full.
        """
        folder = run / FOLDER / f"step-{self.step:08}"
        generators = ranks.objects(_generators(self.model))
        ranks.on_first(lambda: self._write(folder, generators))
        self.saved = folder

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
                raise FsckitError(f"{folder}: cannot be written ({first_line(error)})") from None
            (temporary / VALUES).write_text(json.dumps(values), encoding="utf-8")
        for other in saved_states(folder.parent.parent):
            if other != folder:
                shutil.rmtree(other)

    def load(self, folder: Path, ranks: Ranks, *, any_ranks: bool = True) -> None:
        """Load a saved state.

        Args:
            folder: the state's folder.
            ranks: the ranks of this run.
            any_ranks: whether the number of ranks may differ from the saved run's.

        Raises:
            FsckitError: the folder does not contain a state of this model and these settings.
        """
        try:
            values = json.loads((folder / VALUES).read_text(encoding="utf-8"))
            with safe_open(folder / TENSORS, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if values["format"] != FORMAT:
                raise FsckitError(
                    f"{folder}: saved by another version of fsctrain; delete the run's folder, or "
                    f"choose another `name`"
                )
            if not any_ranks and values["ranks"] != ranks.size:
                raise FsckitError(
                    f"{folder}: a run with `stream` must resume on the same number of ranks, "
                    f"{values['ranks']}, not {ranks.size}"
                )
            for name, mine in self.belongs_to.items():
                if values["belongs_to"][name] != mine:
                    raise FsckitError(
                        f"{folder}: the {name} changed after this state was saved; restore the "
                        f"earlier {name}, or choose another `name`"
                    )
            self._load_model(tensors)
            self._load_optimizer(tensors)
            for name, part in self.parts.items():
                part.load_state_dict(values["parts"][name])
            _set_generators(self.model, tensors, ranks.rank)
            self.step = int(values["step"])
            self.saved = folder
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            raise FsckitError(
                f"{folder}: not a saved state of this run ({type(error).__name__}: "
                f"{first_line(error)}); delete it, or choose another `name`"
            ) from None

    def _trained(self) -> dict[str, Tensor]:
        """The trainable parameters and the buffers, by name."""
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


def _generators(model: nn.Module) -> dict[str, Tensor]:
    """The states of torch's random generators on this rank, which dropout uses."""
    states = {"cpu": torch.get_rng_state()}
    device = next(model.parameters()).device
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_generators(model: nn.Module, tensors: dict[str, Tensor], rank: int) -> None:
    """Restore this rank's generators; a rank that the saved run lacked keeps its own seed."""
    states = {name: tensors.get(f"generator.{rank}.{name}") for name in ("cpu", "cuda")}
    device = next(model.parameters()).device
    if states["cpu"] is not None:
        torch.set_rng_state(states["cpu"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
