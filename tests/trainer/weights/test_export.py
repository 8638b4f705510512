"""The exported folder, its model card, and the upload to the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file

from fscdata.base.errors import FsckitError
from fsctrain.model.lora import merge_lora
from fsctrain.weights import export, interpolate
from support.hf_hub import Hub

FILES = ["README.md", "open_clip_config.json", "open_clip_model.safetensors"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        point_at(hub, monkeypatch)
        yield hub


def point_at(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirect huggingface_hub, as HF_ENDPOINT does at import time."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")


def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


def test_open_clip_loads_the_folder(lora_config, make_run, tmp_path: Path) -> None:
    run, clip = make_run(lora_config)
    out = tmp_path / "out"
    source = export(run, out)
    assert source == f"local-dir:{out}" and sorted(p.name for p in out.iterdir()) == FILES
    merge_lora(clip.model)
    model, _, preprocess = open_clip.create_model_and_transforms(source)
    after = clip.model.state_dict()
    assert all(torch.equal(t, after[name]) for name, t in model.state_dict().items())
    assert preprocess.transforms[0].size == 32
    assert open_clip.get_tokenizer(source)(["a horse"]).shape == (1, 16)


def test_the_card_describes_the_run(small_config, make_run, tmp_path: Path) -> None:
    run, _ = make_run(small_config)
    export(run, tmp_path / "my-model")
    text = card(tmp_path / "my-model")
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "open_clip" and "license" not in front
    assert "# license: fill in the licence" in text and "\n# my-model\n" in text
    for line in (
        "- Base model: small.json, random weights",
        "- Data: coco, flickr",
        "- Recipe: fsc-clip",
        "- Loss: fsc-clip",
        "- Hard negatives: negclip, shape",
        "- Trained: full weights",
        "| lr | 5e-06 |",
        "| betas | 0.9, 0.98 |",
        "| steps | 4 |",
        "| seed | 7 |",
        "From the run, at step 4.",
        "| score | 0.5 |",
        r"| choice\|colour | 0.625 |",
        r"| prefers_true\[colour\] | 0.75 |",
        "| loss | 1.5 |",
    ):
        assert f"{line}\n" in text, line
    assert "oh2024preserving" in text and "yuksekgonul2023when" in text
    assert "hu2022lora" not in text and "wortsman2022robust" not in text
    assert "0.25" not in text, "scores of an earlier step"
    for private in ("/private", "bucket", str(tmp_path)):
        assert private not in text, "a path on this machine"
    assert "create_model_and_transforms('local-dir:my-model')" in text


def test_the_card_describes_interpolated_lora_weights(
    lora_config, make_run, tmp_path: Path
) -> None:
    run, _ = make_run(lora_config.model_copy(update={"loss": "clip", "styles": ()}))
    (folder,) = interpolate(run, "0.3")
    export(folder, tmp_path / "out")
    text = card(tmp_path / "out")
    assert "- Trained: LoRA updates of rank 2, alpha 1, merged\n" in text
    assert "- Interpolated: alpha 0.3 (WiSE-FT: 0 is pretrained, 1 is fine-tuned)\n" in text
    assert "Measured before the interpolation." in text and "- Hard negatives: none\n" in text
    assert "hu2022lora" in text and "wortsman2022robust" in text
    assert "oh2024preserving" not in text and "yuksekgonul2023when" not in text
    exported, given = (load_file(f / FILES[2]) for f in (tmp_path / "out", folder))
    assert all(torch.equal(t, exported[name]) for name, t in given.items())


def test_exports_a_checkpoint_without_its_run(small_config, make_run, tmp_path: Path) -> None:
    run, _ = make_run(small_config)
    alone = shutil.copytree(run / "checkpoint", tmp_path / "far" / "away" / "alone")
    export(alone, tmp_path / "out")
    text = card(tmp_path / "out")
    assert "## Use" in text and "## Training" not in text and "bibtex" not in text


def test_invalid_metrics_are_refused(small_config, make_run, tmp_path: Path) -> None:
    run, _ = make_run(small_config)
    path = run / "metrics.jsonl"
    for line, message in (
        ("[]", "line 1 is not a metrics record"),
        ('{"step": 4, "scores": []}', "step 4: scores are not a mapping"),
    ):
        path.write_text(f"{line}\n")
        with pytest.raises(FsckitError, match=f"{path}: {message}"):
            export(run, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    path.unlink()
    export(run, tmp_path / "out")
    assert "### Settings" in card(tmp_path / "out")


def test_ignores_the_partial_line_of_a_killed_run(small_config, make_run, tmp_path: Path) -> None:
    run, _ = make_run(small_config)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "sco')
    export(run, tmp_path / "out")
    assert "| score | 0.5 |\n" in card(tmp_path / "out")


def test_ignores_a_config_that_is_not_a_runs(small_config, make_run, tmp_path: Path) -> None:
    """The checkpoint is inside a project with its own config.yaml."""
    run, _ = make_run(small_config)
    project = tmp_path / "project"
    shutil.copytree(run / "checkpoint", project / "models" / "mine")
    (project / "config.yaml").write_text("title: my project\n")
    export(project / "models" / "mine", project / "out")
    assert "## Training" not in card(project / "out")


def test_push_uploads_the_folder(hub: Hub, small_config, make_run, tmp_path: Path) -> None:
    run, _ = make_run(small_config)
    out = tmp_path / "out"
    assert export(run, out, "owner/horse", private=True) == "hf-hub:owner/horse"
    (created,) = hub.created
    assert created["name"] == "horse" and created["organization"] == "owner"
    assert created.get("private") is True or created.get("visibility") == "private"
    assert hub.files == {name: (out / name).read_bytes() for name in FILES}
    assert b"hf-hub:owner/horse" in hub.files["README.md"]
    assert json.loads(hub.files["open_clip_config.json"])["model_cfg"]["quick_gelu"] is True

    # A card that someone edited is kept; the weights are replaced.
    hub.files |= {"README.md": b"license: mit", FILES[2]: b"old"}
    export(run, tmp_path / "again", "owner/horse")
    assert hub.files["README.md"] == b"license: mit" and hub.files[FILES[2]] != b"old"
    assert "private" not in hub.created[1] or not hub.created[1]["private"]


def test_a_refused_upload_keeps_the_folder(
    hub: Hub, small_config, make_run, tmp_path: Path
) -> None:
    hub.refuses = True
    run, _ = make_run(small_config)
    out = tmp_path / "out"
    with pytest.raises(FsckitError, match=f"{out} is complete, but `push` owner/horse failed") as e:
        export(run, out, "owner/horse")
    assert "\n" not in str(e.value) and f"'hf upload owner/horse {out}'" in str(e.value)
    assert sorted(p.name for p in out.iterdir()) == FILES


def test_an_unreachable_hub_gives_a_one_line_error(
    small_config, make_run, tmp_path: Path, monkeypatch
) -> None:
    with Hub() as hub:
        point_at(hub, monkeypatch)
    run, _ = make_run(small_config)
    with pytest.raises(FsckitError, match="`push` owner/horse failed") as error:
        export(run, tmp_path / "out", "owner/horse")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["horse", "a/b/c", "/b", "a b/c", "../x", "a/-b\n"])
def test_invalid_repository_names_are_refused(name: str, small_config, make_run, tmp_path) -> None:
    run, _ = make_run(small_config)
    with pytest.raises(FsckitError, match="expected OWNER/NAME"):
        export(run, tmp_path / "out", name)
    with pytest.raises(
        FsckitError, match="`private` needs a repository to upload to; set one with `push`"
    ):
        export(run, tmp_path / "out", private=True)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(small_config, make_run, tmp_path: Path) -> None:
    run, _ = make_run(small_config)
    with pytest.raises(FsckitError, match="already exists; choose another `out`"):
        export(run, run / "checkpoint")
