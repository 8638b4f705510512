"""Create an open_clip model from its name and pretrained weights."""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import open_clip
import torch
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from safetensors import SafetensorError, safe_open

from fscdata.base.errors import FsckitError, first_line
from fsctrain.model.named import CONFIG_NAME, is_named, model_folder, named_weights

log = logging.getLogger("fsctrain")

Tokenizer = Callable[[list[str]], torch.Tensor]

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")

# Any to the type checker: open_clip has no type hints.
OpenClip: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP


@dataclass(frozen=True)
class Clip:
    """An open_clip model and its configuration.

    `model_cfg` and `preprocess_cfg` have open_clip's format; `model_cfg` includes the activation.
    """

    model: OpenClip
    name: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]

    @property
    def builtin(self) -> bool:
        """Whether `name` is one of open_clip's own models, not a path to a config JSON."""
        return self.name in open_clip.list_models()

    @property
    def quick_gelu(self) -> bool:
        return bool(self.model_cfg.get("quick_gelu", False))


def create_model(name: str, pretrained: str, device: torch.device | str = "cpu") -> Clip:
    """Create a model with its weights.

    If the tag or the file's metadata says that the weights were trained with QuickGELU, the model
    uses it, whatever its name implies: the wrong activation silently costs accuracy.

    Args:
        name: an open_clip model name, a path to an open_clip config JSON, or a named model:
            `local-dir:FOLDER`, `hf-hub:OWNER/NAME`, a run's folder or a checkpoint's. Of a named
            model only the configuration is used.
        pretrained: a tag of the model, a path to weights (safetensors, or a torch file that
            holds only tensors), a named model, or `none` for random weights from torch's
            generator.
        device: the model's device.

    Raises:
        FsckitError: unknown model or weights, weights that do not fit, or a failed download.
    """
    model_cfg, preprocess_cfg = _read_config(name)
    weights: Path | None = None
    if pretrained != "none":
        weights, trained = _find_weights(name, pretrained)
        if trained.get("quick_gelu"):
            model_cfg["quick_gelu"] = True
        preprocess_cfg |= {k: trained[k] for k in PREPROCESSING if k in trained}
    model = _build(name, model_cfg, preprocess_cfg)
    if weights is not None:
        try:
            with _quiet():
                open_clip.load_checkpoint(model, str(weights), weights_only=True)
        except Exception as error:  # an arbitrary file can fail in any way
            # torch's own message advises loading the file with code execution enabled.
            unsafe = isinstance(error, pickle.UnpicklingError)
            why = "expected only tensors" if unsafe else first_line(error)
            raise FsckitError(
                f"`pretrained` {pretrained}: not weights of model {name} ({why})"
            ) from None
    preprocess_cfg = open_clip.get_model_preprocess_cfg(model)
    return Clip(model.to(device), name, model_cfg, {k: preprocess_cfg[k] for k in PREPROCESSING})


def get_tokenizer(clip: Clip) -> Tokenizer:
    """The model's tokenizer: texts → ids [n, context_length]; truncation keeps the end token.

    Raises:
        FsckitError: the model's tokenizer cannot be loaded.
    """
    try:
        with _quiet():
            if clip.builtin:
                tokenizer: Tokenizer = open_clip.get_tokenizer(clip.name)
            else:
                with _local_folder(clip.model_cfg, clip.preprocess_cfg) as local:
                    tokenizer = open_clip.get_tokenizer(local)
            return tokenizer
    except Exception as error:  # transformers may load it, possibly from the network
        raise FsckitError(
            f"model {clip.name}: failed to load its tokenizer ({first_line(error)})"
        ) from None


def uses_clip_bpe(clip: Clip) -> bool:
    """Whether the model uses open_clip's SimpleTokenizer with its default options."""
    text_cfg = clip.model_cfg["text_cfg"]
    return (
        not text_cfg.get("hf_tokenizer_name")
        and not text_cfg.get("tokenizer_kwargs")
        and "siglip" not in clip.name.lower()
    )


def _read_config(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configurations of a model and, if its file has one, of its preprocessing."""
    path = model_folder(name) / CONFIG_NAME if is_named(name) else Path(name)
    if path.suffix != ".json":
        if name in open_clip.list_models():
            return open_clip.get_model_config(name), {}
        raise FsckitError(
            f"`model` {name}: unknown model; choose ViT-B-32, ViT-B-16, ViT-L-14 or another of "
            f"open_clip.list_models(), or pass a run's folder, local-dir:FOLDER, "
            f"hf-hub:OWNER/NAME, or a path to a .json file"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model_cfg = config.get("model_cfg", config)
        preprocess_cfg = config.get("preprocess_cfg", {})
        complete = all(isinstance(model_cfg[k], dict) for k in ("vision_cfg", "text_cfg"))
    except OSError as error:
        raise FsckitError(f"`model` {name}: {error.strerror}") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        complete = False
    if not complete or "embed_dim" not in model_cfg:
        raise FsckitError(
            f"`model` {name}: not an open_clip config; expected embed_dim, vision_cfg and text_cfg"
        )
    return model_cfg, {k: v for k, v in preprocess_cfg.items() if k in PREPROCESSING}


def _find_weights(name: str, pretrained: str) -> tuple[Path, dict[str, Any]]:
    """The weights file, and the settings they were trained with (activation, preprocessing)."""
    path = named_weights(pretrained) if is_named(pretrained) else Path(pretrained)
    if path.is_file():
        return path, _metadata(path)
    tag = get_pretrained_cfg(name, pretrained)
    if not tag:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise FsckitError(
            f"`pretrained` {pretrained}: not a tag of model {name}, a file, a run's folder, "
            f"local-dir:FOLDER or hf-hub:OWNER/NAME; choose "
            f"{', '.join([*tags, 'none'])} (none: random weights)"
        )
    log.info("downloading the weights '%s' of %s", pretrained, name)
    try:
        with _quiet():
            return Path(download_pretrained(tag)), tag
    except Exception as error:  # the hub's client and urllib raise many types
        raise FsckitError(
            f"`pretrained` {pretrained}: download failed ({first_line(error)}); pass a path to the "
            f"weights, or none for random weights"
        ) from None


def _metadata(path: Path) -> dict[str, Any]:
    """The model configuration in a safetensors file written by fsctrain; empty for other files."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            config = json.loads((file.metadata() or {}).get("model_cfg", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise FsckitError(
            f"`pretrained` {path}: not a safetensors file ({first_line(error)})"
        ) from None
    return config if isinstance(config, dict) else {}


def _build(name: str, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any]) -> OpenClip:
    """Build a configuration's model with random weights, on the CPU."""
    if "hf_model_name" in model_cfg["text_cfg"] or "multimodal_cfg" in model_cfg:
        raise FsckitError(
            f"model {name}: fsctrain supports only open_clip's causal TextTransformer as the "
            f"text tower; choose a model such as ViT-B-32"
        )
    try:
        # Without weights: `create_model` loads them itself, without running code.
        with _quiet(), _local_folder(model_cfg, preprocess_cfg) as local:
            return open_clip.create_model(local, load_weights=False)
    except (TypeError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise FsckitError(
            f"`model` {name}: open_clip cannot build it ({first_line(error)})"
        ) from None


@contextmanager
def _local_folder(model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any]) -> Iterator[str]:
    """A folder with a configuration for open_clip, to keep it out of the global registry."""
    with tempfile.TemporaryDirectory() as folder:
        config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
        (Path(folder) / CONFIG_NAME).write_text(json.dumps(config), encoding="utf-8")
        yield f"local-dir:{folder}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the log lines of open_clip and the hub's client; this module logs what matters."""
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(previous)
