"""Model names, configurations and weights, valid and invalid."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import open_clip.pretrained
import pytest
import torch

from fscdata.base.errors import FsckitError
from fsctrain.checkpoint import save_checkpoint
from fsctrain.model import create_model


class Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("exploded"),)


def test_loads_torch_files(tiny_model: str, tmp_path: Path) -> None:
    model = create_model(tiny_model, "none").model
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": model.state_dict()}, path)
    loaded = create_model(tiny_model, str(path)).model
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_files_without_weights_are_refused(
    name: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    contents = [b"", b"not weights", pickle.dumps({"state_dict": Bomb()})]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(FsckitError, match=rf"`pretrained` {path}: not ") as error:
            create_model(tiny_model, str(path))
        assert "\n" not in str(error.value)
    torch.save({"state_dict": {"visual.proj": Bomb()}}, path)
    with pytest.raises(FsckitError, match="not "):
        create_model(tiny_model, str(path))
    assert not (tmp_path / "exploded").exists()


def test_weights_of_another_model_are_refused(tiny_model: str, tmp_path: Path) -> None:
    config = json.loads(Path(tiny_model).read_text())
    config["embed_dim"] = 16
    other = tmp_path / "other.json"
    other.write_text(json.dumps(config))
    path = tmp_path / "weights.pt"
    torch.save(create_model(str(other), "none").model.state_dict(), path)
    with pytest.raises(FsckitError, match="not weights of model"):
        create_model(tiny_model, str(path))


def test_unknown_models_and_tags_are_refused(tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match="`model` ViT-Z-99: unknown model; choose ViT-B-32"):
        create_model("ViT-Z-99", "none")
    with pytest.raises(FsckitError, match=r"`model` nowhere.json: No such file"):
        create_model("nowhere.json", "none")
    path = tmp_path / "bad.json"
    for text in ("{", "[]", "{}", '{"vision_cfg": {}, "text_cfg": {}}', '{"model_cfg": 3}'):
        path.write_text(text)
        with pytest.raises(FsckitError, match="not an open_clip config"):
            create_model(str(path), "none")
    path.write_text('{"embed_dim": 8, "vision_cfg": {"colour": 1}, "text_cfg": {}}')
    with pytest.raises(FsckitError, match="open_clip cannot build it"):
        create_model(str(path), "none")
    with pytest.raises(FsckitError, match=r"not a tag of model ViT-B-32.*openai"):
        create_model("ViT-B-32", "opennai")
    with pytest.raises(FsckitError, match=r"choose none \(none: random weights\)"):
        create_model(tiny_model, "openai")


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> str:
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr(open_clip.pretrained, "hf_hub_download", offline)
    with pytest.raises(FsckitError, match=r"download failed.*pass a path.*or none") as error:
        create_model("ViT-B-32", "openai")
    assert "\n" not in str(error.value)


def test_a_tag_decides_the_activation(tiny_model: str, tmp_path, monkeypatch) -> None:
    """OpenAI's weights for ViT-B-32, whose configuration specifies GELU."""
    weights = tmp_path / "weights.pt"
    torch.save(create_model(tiny_model, "none").model.state_dict(), weights)
    config = json.loads(Path(tiny_model).read_text())
    monkeypatch.setattr("open_clip.get_model_config", lambda name: config)
    monkeypatch.setattr("fsctrain.model.create.download_pretrained", lambda tag: str(weights))
    clip = create_model("ViT-B-32", "openai")
    assert clip.quick_gelu and clip.model_cfg["quick_gelu"]
    activations = {type(m).__name__ for m in clip.model.modules() if "GELU" in type(m).__name__}
    assert activations == {"QuickGELU"}
    config["quick_gelu"] = False
    assert not create_model("ViT-B-32", "laion2b_s34b_b79k").quick_gelu


def test_folders_name_weights_and_architectures(tiny_model: str, tmp_path: Path) -> None:
    """A run's folder, a checkpoint's, and open_clip's `local-dir:` of either."""
    clip = create_model(tiny_model, "none")
    run = tmp_path / "run"
    checkpoint = run / "checkpoint"
    run.mkdir()
    save_checkpoint(checkpoint, clip)
    (run / "config.yaml").touch()
    for name in (str(run), str(checkpoint), f"local-dir:{run}", f"local-dir:{checkpoint}"):
        for model in (tiny_model, name):
            loaded = create_model(model, name).model.state_dict()
            assert all(torch.equal(t, loaded[n]) for n, t in clip.model.state_dict().items())


def test_hub_names_are_downloaded(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = create_model(tiny_model, "none")
    folder = tmp_path / "snapshot"
    save_checkpoint(folder, clip)
    asked: list[str] = []

    def snapshot_download(name: str, **_: object) -> str:
        asked.append(name)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    loaded = create_model("hf-hub:someone/clip", "hf-hub:someone/clip").model.state_dict()
    assert all(torch.equal(t, loaded[n]) for n, t in clip.model.state_dict().items())
    assert set(asked) == {"someone/clip"}


def test_folders_without_a_model_are_refused(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, **_: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.yaml").touch()
    (tmp_path / "lora").mkdir()
    for name in ("open_clip_config.json", "lora_config.json"):
        (tmp_path / "lora" / name).write_text("{}")
    for name, words in (
        (str(tmp_path), "neither a run nor a checkpoint folder"),
        (f"local-dir:{tmp_path / 'gone'}", "neither a run nor a checkpoint folder"),
        (str(tmp_path / "unfinished"), "this run has not finished"),
        (str(tmp_path / "lora"), "a LoRA checkpoint; run 'fsctrain merge .*lora'"),
        ("hf-hub:someone/clip", r"download failed \(no network\); pass the path"),
    ):
        with pytest.raises(FsckitError, match=words):
            create_model(tiny_model, name)
