"""Export a model as a folder that open_clip loads, and upload it to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi

from fscdata.base.errors import FsckitError, first_line
from fscdata.base.files import atomic_folder
from fsctrain.checkpoint import write_weights
from fsctrain.model import Clip, get_tokenizer
from fsctrain.weights.card import model_card
from fsctrain.weights.load import ALPHA, find_checkpoint, load_tuned, refuse_to_overwrite

CARD = "README.md"


def export(path: Path, out: Path, push: str | None = None, *, private: bool = False) -> str:
    """Write a model in open_clip's hub layout: weights, configuration, tokenizer, model card.

    A LoRA checkpoint is merged first. Tokenizer files are written only for transformers
    tokenizers; open_clip's own needs none.

    Args:
        path: a run's or a checkpoint's folder.
        out: the new folder, written atomically.
        push: a hub repository to upload the folder to, OWNER/NAME; created if missing.
        private: whether to create the repository as private.

    Returns:
        The name that open_clip loads it by: `hf-hub:OWNER/NAME` or `local-dir:FOLDER`.

    Raises:
        FsckitError: no checkpoint found, `out` exists, or the upload fails (`out` is kept).
    """
    if push is not None:
        _check_name(push)
    elif private:
        raise FsckitError("`private` needs a repository to upload to; set one with `push`")
    refuse_to_overwrite(out)
    checkpoint = find_checkpoint(path)
    source = f"hf-hub:{push}" if push else f"local-dir:{out}"
    title = push.split("/")[1] if push else out.absolute().name
    # The card must not reveal folder names of this machine.
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
    """Write the files of a transformers tokenizer, which open_clip expects beside the weights."""
    if clip.model_cfg["text_cfg"].get("hf_tokenizer_name"):
        get_tokenizer(clip).save_pretrained(folder)  # type: ignore[attr-defined]


def _check_name(push: str) -> None:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", push, re.ASCII):
        raise FsckitError(
            f"`push` {push}: expected OWNER/NAME of letters, digits, '-', '_' and '.'"
        )


def _push(folder: Path, repository: str, private: bool) -> None:
    """Upload a folder; an existing model card is kept, because someone may have edited it."""
    try:
        hub = HfApi(library_name="fsckit")
        # None means public, unless the owner's organization has another default.
        hub.create_repo(repository, private=private or None, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Add the model",
            ignore_patterns=[CARD] if hub.file_exists(repository, CARD) else None,
        )
    except Exception as error:  # the hub's client, httpx and the operating system raise many types
        raise FsckitError(
            f"{folder} is complete, but `push` {repository} failed ({first_line(error)}); log in "
            f"with 'hf auth login', then run 'hf upload {repository} {folder}'"
        ) from None
