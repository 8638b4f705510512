"""The model card of an exported run: what users of the weights need to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fscdata.base.errors import FsckitError
from fscdata.base.text import printable
from fsctrain import __version__
from fsctrain.config import Config
from fsctrain.model.named import HUB, LOCAL
from fsctrain.records import read_metrics
from fsctrain.run_folder import FREE, METRICS
from fsctrain.saved_states import CHECKPOINT
from fsctrain.weights.load import Checkpoint

# Described above the table, or specific to this machine instead of the model.
_NOT_LISTED = FREE | {"data", "model", "pretrained", "validation", "stream"}

_FRONT = """---
library_name: open_clip
pipeline_tag: zero-shot-image-classification
tags:
- clip
- hard-negatives
# license: fill in the licence, which depends on the pretrained weights and on the data
---
"""

_CITATIONS = {
    "FSC-CLIP": """@inproceedings{oh2024preserving,
  title = {Preserving Multi-Modal Capabilities of Pre-trained {VLM}s for Improving \
Vision-Linguistic Compositionality},
  author = {Oh, Youngtaek and Cho, Jae Won and Kim, Dong-Jin and Kweon, In So and Kim, Junmo},
  booktitle = {EMNLP},
  year = {2024}
}""",
    "NegCLIP": """@inproceedings{yuksekgonul2023when,
  title = {When and Why Vision-Language Models Behave like Bags-of-Words, and What to Do About It?},
  author = {Yuksekgonul, Mert and Bianchi, Federico and Kalluri, Pratyusha and Jurafsky, Dan and \
Zou, James},
  booktitle = {ICLR},
  year = {2023}
}""",
    "LoRA": """@inproceedings{hu2022lora,
  title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and \
Li, Yuanzhi and Wang, Shean and Wang, Lu and Chen, Weizhu},
  booktitle = {ICLR},
  year = {2022}
}""",
    "WiSE-FT": """@inproceedings{wortsman2022robust,
  title = {Robust Fine-Tuning of Zero-Shot Models},
  author = {Wortsman, Mitchell and Ilharco, Gabriel and Kim, Jong Wook and Li, Mike and \
Kornblith, Simon and Roelofs, Rebecca and Gontijo-Lopes, Raphael and Hajishirzi, Hannaneh and \
Farhadi, Ali and Namkoong, Hongseok and Schmidt, Ludwig},
  booktitle = {CVPR},
  year = {2022}
}""",
}


def model_card(checkpoint: Checkpoint, title: str, source: str) -> str:
    """The text of an exported model's README.md.

    Args:
        checkpoint: the exported checkpoint; without a run, the card only says how to load it.
        title: the model's name.
        source: the name that open_clip loads it by: `hf-hub:OWNER/NAME` or `local-dir:FOLDER`.

    Raises:
        FsckitError: the run's metrics cannot be read.
    """
    config, alpha = checkpoint.config, checkpoint.alpha
    sections = [
        f"{_FRONT}\n# {_cell(title)}\n\nA CLIP model fine-tuned with fsckit {__version__}; it "
        f"loads in plain open_clip.",
        f"## Use\n\n```python\nimport open_clip\n\nmodel, _, preprocess = "
        f"open_clip.create_model_and_transforms({source!r})\n"
        f"tokenizer = open_clip.get_tokenizer({source!r})\n```",
    ]
    if checkpoint.run is not None and config is not None:
        sections.append(f"## Training\n\n{_training(config, alpha)}")
        sections.append(f"### Settings\n\n{_table('setting', _settings(config))}")
        metrics = _metrics(checkpoint.run / METRICS)
        note = " Measured before the interpolation." if alpha else ""
        for heading, record in metrics.items():
            text = f"From the run, at step {record.pop('step')}.{note}"
            sections.append(f"### {heading}\n\n{text}\n\n{_table('metric', _flat(record))}")
    cited = _citations(config, alpha)
    if cited:
        sections.append("## Citation\n\n```bibtex\n" + "\n\n".join(cited) + "\n```")
    return "\n\n".join(sections) + "\n"


def _training(config: Config, alpha: str | None) -> str:
    """Base model, data, loss and what was trained."""
    styles = ", ".join(config.styles)
    lines = {
        "Base model": _base(config),
        "Data": ", ".join(Path(folder).name for folder in config.data),
        "Recipe": Path(config.recipe).stem if config.recipe else "none",
        "Loss": config.loss,
        "Hard negatives": styles or "none",
        "Trained": f"LoRA updates of rank {config.lora_rank}, alpha {config.lora_alpha:g}, merged"
        if config.lora_rank
        else "full weights",
    }
    if alpha is not None:
        lines["Interpolated"] = f"alpha {alpha} (WiSE-FT: 0 is pretrained, 1 is fine-tuned)"
    return "\n".join(f"- {name}: {_cell(text)}" for name, text in lines.items())


def _base(config: Config) -> str:
    """Names of the model and its initial weights, without paths, which are private."""
    weights = "random weights" if config.pretrained == "none" else _public(config.pretrained)
    return f"{_public(config.model)}, {weights}"


def _public(name: str) -> str:
    """A name without its folders; hub names stay whole."""
    if name.startswith(HUB):
        return name
    path = Path(name.removeprefix(LOCAL))
    return path.parent.name if path.name == CHECKPOINT else path.name


def _settings(config: Config) -> dict[str, Any]:
    listed = config.model_dump(mode="json", exclude_none=True, exclude=set(_NOT_LISTED))
    return {name: value for name, value in listed.items() if value != []}


def _metrics(path: Path) -> dict[str, dict[str, Any]]:
    """The last scores and the last training record, if any."""
    latest: dict[str, dict[str, Any]] = {}
    for record in read_metrics(path) if path.exists() else []:
        if "scores" not in record:
            latest["Last steps"] = record
        elif isinstance(record["scores"], dict):
            latest["Scores"] = {**record["scores"], "step": record["step"]}
        else:
            raise FsckitError(f"{path}: step {record['step']}: scores are not a mapping")
    return dict(sorted(latest.items(), reverse=True))  # scores first


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a record: nested keys become `prefers_true[negclip]`."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        key = f"{prefix}[{name}]" if prefix else name
        flat |= _flat(value, key) if isinstance(value, dict) else {key: value}
    return flat


def _table(what: str, values: dict[str, Any]) -> str:
    rows = [f"| {_cell(name)} | {_cell(_shown(value))} |" for name, value in values.items()]
    return "\n".join([f"| {what} | value |", "|---|---|", *rows])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_shown, value)) if isinstance(value, list) else str(value)


def _cell(text: str) -> str:
    """Escape text for Markdown."""
    return "".join(f"\\{c}" if c in "\\`*<>|[]" else c for c in printable(text))


def _citations(config: Config | None, alpha: str | None) -> list[str]:
    used = {
        "FSC-CLIP": config is not None and config.loss == "fsc-clip",
        "NegCLIP": config is not None and "negclip" in (config.loss, *config.styles),
        "LoRA": config is not None and config.lora_rank is not None,
        "WiSE-FT": alpha is not None,
    }
    return [_CITATIONS[name] for name, applies in used.items() if applies]
