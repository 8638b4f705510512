"""A folder that open_clip loads, with a model card; and from there to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi

from fscdata.base.errors import FsckitError
from fscdata.base.files import atomic_folder
from fscdata.base.text import printable
from fsctrain.checkpoint import write_weights
from fsctrain.model import Clip, get_tokenizer
from fsctrain.weights.card import model_card
from fsctrain.weights.load import ALPHA, find_checkpoint, load_tuned, refuse_to_overwrite

CARD = "README.md"


def export(path: Path, out: Path, push: str | None = None, *, private: bool = False) -> str:
    """Write a model as the hub holds open_clip's: weights, configuration, tokenizer, model card.

    A LoRA checkpoint is merged first. Files of a tokenizer are written where open_clip wants
    some: its own, which most models have, needs none.

    Args:
        path: a run, or a checkpoint's folder.
        out: the new folder, which appears whole or not at all.
        push: the hub's repository that the folder is uploaded to, OWNER/NAME; made if need be.
        private: whether a repository that is made is private.

    Returns:
        What open_clip loads it by: `hf-hub:OWNER/NAME`, or `local-dir:FOLDER`.

    Raises:
        FsckitError: no such checkpoint, `out` is there, or the hub refuses; `out` stays then.
    """
    if push is not None:
        _check_name(push)
    elif private:
        raise FsckitError("--private is for a repository; name one with --push OWNER/NAME")
    refuse_to_overwrite(out)
    checkpoint = find_checkpoint(path)
    source = f"hf-hub:{push}" if push else f"local-dir:{out}"
    title = push.split("/")[1] if push else out.absolute().name
    # The card says nothing of the folders of this machine.
    card = model_card(checkpoint, title, source if push else f"local-dir:{title}")
    clip, alpha = load_tuned(checkpoint), checkpoint.alpha
    with atomic_folder(out) as temporary:
        write_weights(temporary, clip, clip.model.state_dict(), {ALPHA: alpha} if alpha else None)
        _write_tokenizer(temporary, clip)
        (temporary / CARD).write_text(card, encoding="utf-8")
    if push is not None:
        _push(out, push, private)
    return source


def _write_tokenizer(folder: Path, clip: Clip) -> None:
    """The files of a tokenizer of transformers, which open_clip looks for beside the weights."""
    if clip.model_cfg["text_cfg"].get("hf_tokenizer_name"):
        get_tokenizer(clip).save_pretrained(folder)  # type: ignore[attr-defined]


def _check_name(push: str) -> None:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", push, re.ASCII):
        raise FsckitError(f"--push {push}: OWNER/NAME is wanted, in letters, digits, '-', '_', '.'")


def _push(folder: Path, repository: str, private: bool) -> None:
    """Upload a folder; a model card that is there already, filled in by a person, is kept."""
    try:
        hub = HfApi(library_name="fsckit")
        # None: public, unless the owner's own rule is another.
        hub.create_repo(repository, private=private or None, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Add the model",
            ignore_patterns=[CARD] if hub.file_exists(repository, CARD) else None,
        )
    except Exception as error:  # the hub's client, httpx and the operating system have their own
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FsckitError(
            f"{folder} is written, but --push {repository} failed ({printable(why)}); log in with "
            f"'hf auth login', then give 'hf upload {repository} {folder}'"
        ) from None
