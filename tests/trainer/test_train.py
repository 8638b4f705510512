"""Complete runs of a few seconds, on a data set written only with the contract package."""

from __future__ import annotations

import json
import math
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

import fsctrain.setup
from fscdata.base.errors import FsckitError
from fsctrain.benchmarks import choice_accuracy
from fsctrain.config import Config, load_config
from fsctrain.model import embed_images, embed_texts
from fsctrain.train import TrainResult, train


def records(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


def scores(run: TrainResult) -> dict[int, dict[str, float]]:
    return {r["step"]: r["scores"] for r in records(run.folder) if "scores" in r}


def test_a_run_writes_its_folder(config: Config) -> None:
    seen = []
    run = train(config, watch=lambda record, steps: seen.append((record, steps)))
    assert run.folder == config.out / "test" and run.steps == 4 and run.bad_images == {}
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "checkpoint",
        "config.yaml",
        "metrics.jsonl",
    ]
    found = records(run.folder)
    assert seen == [(record, 4) for record in found]
    assert [record["step"] for record in found] == [1, 2, 3, 4]
    assert [record["epoch"] for record in found] == [0, 0, 0, 1]
    assert [record["lr"] for record in found[:3]] == [5e-4, 1e-3, 1e-3]
    for record in found:
        parts = record["clip"] + 0.5 * record["global"] + 0.2 * record["local"]
        assert record["loss"] == pytest.approx(parts, rel=1e-5)
        assert record["prefers_true"].keys() == {"colour", "shape"}
        assert 0 < record["with_negatives"] <= 1
        assert record["samples_per_second"] > 0 < record["step_seconds"]
        assert record["data_seconds"] >= 0 < record["logit_scale"] <= 100.001
    again = load_config(str(run.folder / "config.yaml"), {"name": "again"})
    assert again.model_copy(update={"name": "test", "recipe": None}) == config
    model = open_clip.create_model(f"local-dir:{run.checkpoint.parent}")
    state = load_file(run.checkpoint)
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())


@pytest.mark.slow
def test_equal_runs_give_equal_weights(config: Config) -> None:
    """Bit for bit, with any number of workers."""
    states = []
    for name, workers in (("a", 0), ("b", 0), ("c", 2)):
        settings = {"name": name, "workers": workers, "steps": 5}
        states.append(load_file(train(config.model_copy(update=settings)).checkpoint))
    other = load_file(train(config.model_copy(update={"seed": 1, "name": "d"})).checkpoint)
    for state in states[1:]:
        assert all(torch.equal(t, state[name]) for name, t in states[0].items())
    assert not torch.equal(other["visual.proj"], states[0]["visual.proj"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["clip", "negclip", "fsc-clip"])
def test_every_loss_goes_down(loss: str, config: Config) -> None:
    settings = {"loss": loss, "steps": 60, "batch_size": 12, "log_every": 10, "lr": 2e-3}
    if loss != "fsc-clip":
        settings |= {"global_weight": 0.0, "local_weight": 0.0}
    if loss == "clip":
        settings |= {"styles": ()}
    found = records(train(config.model_copy(update=settings)).folder)
    assert found[-1]["loss"] < 0.5 * found[0]["loss"]
    if loss == "clip":
        assert found[0]["with_negatives"] == 0 and found[0]["prefers_true"] == {}
    else:
        assert min(found[-1]["prefers_true"].values()) > 0.9


def test_trains_on_batches_without_a_negative(config: Config, make_data, samples) -> None:
    """One of 12 captions has a negative, so most batches of 4 have none."""
    for sample in samples[1:]:
        sample.negatives = {"colour": [[]], "shape": [[]]}
    samples[0].negatives = {"colour": [["a tall blue image"]], "shape": [[]]}
    make_data(samples)
    found = records(train(config.model_copy(update={"steps": 3})).folder)
    without = [record for record in found if record["with_negatives"] == 0]
    assert len(without) == 2
    for record in without:
        assert record["global"] == record["local"] == 0 and record["loss"] == record["clip"]
        assert record["prefers_true"] == {"colour": None, "shape": None}
        assert math.isfinite(record["loss"])


def test_an_epoch_ends_with_a_partial_batch(config: Config) -> None:
    run = train(config.model_copy(update={"steps": None, "epochs": 2, "batch_size": 5}))
    assert run.steps == 6 and [r["epoch"] for r in records(run.folder)] == [0, 0, 0, 1, 1, 1]


def test_lines_of_metrics_are_means_over_steps(config: Config) -> None:
    every = records(train(config.model_copy(update={"steps": 5})).folder)
    some = records(
        train(config.model_copy(update={"steps": 5, "log_every": 2, "name": "some"})).folder
    )
    assert [record["step"] for record in some] == [2, 4, 5]
    assert some[0]["loss"] == pytest.approx((every[0]["loss"] + every[1]["loss"]) / 2)
    assert some[2]["loss"] == pytest.approx(every[4]["loss"])


def test_calls_evaluate(config: Config) -> None:
    """Before the first step, every three steps and after the last; training stays the same."""
    calls = []

    def evaluate(model: torch.nn.Module, step: int) -> dict[str, float]:
        assert not model.training and not torch.is_grad_enabled()
        calls.append(step)
        images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        tokens = torch.tensor([[49406, 320, 49407], [49406, 321, 49407]])
        texts = embed_texts(model, tokens)
        return {"choice": choice_accuracy(embed_images(model, images), texts[:1], texts[1:])}

    run = train(config, evaluate=evaluate, evaluate_every=3)
    assert calls == [0, 3, 4]
    scored = [record for record in records(run.folder) if "scores" in record]
    assert [record["step"] for record in scored] == [0, 3, 4]
    assert all(record["scores"]["choice"] in (0, 0.5, 1) for record in scored)
    plain = train(config.model_copy(update={"name": "plain"}))
    one, other = load_file(run.checkpoint), load_file(plain.checkpoint)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.slow
def test_scores_the_validation_set(config: Config) -> None:
    """Once an epoch, before the first step and after the last."""
    validated = config.model_copy(update={"validation": config.data[0], "steps": 7})
    found = scores(train(validated))
    assert list(found) == [0, 3, 6, 7]
    for values in found.values():
        assert {"score", "image_to_text_recall@1", "choice/colour"} <= values.keys()
        assert all(0 <= score <= 1 for score in values.values())
    often = validated.model_copy(update={"validate_every": 2, "name": "often"})
    assert list(scores(train(often))) == [0, 2, 4, 6, 7]


def test_the_logit_scale_stays_in_its_range(config: Config) -> None:
    run = train(config.model_copy(update={"lr": 5.0, "warmup": 0, "steps": 2}))
    scale = load_file(run.checkpoint)["logit_scale"].item()
    assert 0 <= scale <= math.log(100) + 1e-6
    assert scale in (0.0, pytest.approx(math.log(100)))


def test_lists_and_counts_bad_images(config: Config, make_data, samples) -> None:
    samples[4].image = samples[4].image[:700]
    samples[9].image = b"<html>"
    make_data(samples)
    run = train(config.model_copy(update={"steps": 9}))
    assert run.bad_images == {"damaged image": 1, "not an image": 1}
    bad = [json.loads(line) for line in (run.folder / "bad_images.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in bad) == ["11", "30"]
    assert {line["tar"] for line in bad} == {"00000.tar", "00001.tar"}


def test_stops_on_too_many_bad_images(config: Config, make_data, samples) -> None:
    for sample in samples[:11]:
        sample.image = b"<html>"
    make_data(samples)
    with pytest.raises(
        FsckitError,
        match=r"bad_images.jsonl: 30 of the first 33 rows.*11.*allowed share of 0.01.*`max_bad`",
    ):
        train(config)
    assert not (config.out / "test" / "checkpoint").exists()


def test_refuses_data_without_a_usable_image(config: Config, make_data, samples) -> None:
    for sample in samples[:3]:
        sample.image = b"<html>"
    data = make_data(samples[:3])
    for path in data.rglob("0000[12].*"):
        path.unlink()  # of the fixture's twelve samples
    with pytest.raises(FsckitError, match=r"no image could be used .not an image: 3"):
        train(config)


def test_stops_when_the_loss_is_not_finite(config: Config) -> None:
    with pytest.raises(
        FsckitError, match=r"the loss is nan at step \d.*samples .*, .*`lr`"
    ) as error:
        train(config.model_copy(update={"lr": 1e30, "steps": 20}))
    assert "\n" not in str(error.value)
    assert not (config.out / "test" / "checkpoint").exists()
    found = records(config.out / "test")  # JSON, which has no NaN
    assert found[0]["loss"] > 0 and found[-1]["loss"] is None


def test_reports_missing_data_before_downloading_weights(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsctrain.setup.create_model", pytest.fail)
    for change in ({"data": ("nowhere",)}, {"validation": "nowhere"}):
        with pytest.raises(FsckitError, match=r"nowhere: no such folder"):
            train(config.model_copy(update=change))


def test_refuses_an_existing_folder(config: Config) -> None:
    (config.out / "test").mkdir(parents=True)
    (config.out / "test" / "config.yaml").touch()
    with pytest.raises(
        FsckitError,
        match=r"runs/test: already contains an unfinished run.*delete the folder.*`name`",
    ):
        train(config)
    (config.out / "test" / "checkpoint").mkdir()
    with pytest.raises(FsckitError, match=r"runs/test: already contains a run.*`name`"):
        train(config)
    assert sorted(p.name for p in config.out.rglob("*")) == ["checkpoint", "config.yaml", "test"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"device": "tpu9"}, "`device` tpu9: torch finds no such device"),
        ({"device": "meta"}, "`device` meta: torch finds no such device"),
        ({"styles": ("colour", "svlc")}, "no negatives of style 'svlc'"),
        ({"loss": "siglip"}, "unknown loss"),
        ({"data": ("nowhere",)}, "nowhere: no such folder"),
        ({"pretrained": "nowhere.safetensors"}, "not a tag of model .*, a file, a run's folder"),
    ],
)
def test_errors_leave_no_folder(settings: dict, sentence: str, config: Config) -> None:
    with pytest.raises(FsckitError, match=sentence):
        train(config.model_copy(update=settings))
    assert not config.out.exists()


def test_clips_gradients(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    step = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat([g.flatten() for g in grads if g is not None]).norm().item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train(config.model_copy(update={"grad_clip_norm": 0.01, "steps": 2}))
    assert norms == pytest.approx([0.01, 0.01], rel=1e-2)


def test_trains_in_bf16(config: Config) -> None:
    """Autocast as on a GPU: the weights stay in fp32, and the losses are close to fp32's."""
    plain = records(train(config).folder)
    run = train(config.model_copy(update={"precision": "bf16", "name": "bf16"}))
    assert {t.dtype for t in load_file(run.checkpoint).values()} == {torch.float32}
    for one, other in zip(records(run.folder), plain, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.05)
        assert one["loss"] != other["loss"]


def test_stops_when_a_tar_changes(config: Config, monkeypatch) -> None:
    """The error names the sample and the tar."""
    make = fsctrain.setup.open_source

    def open_then_change(settings: Config, *args):
        source = make(settings, *args)
        tar = Path(settings.data[0]) / "shards" / "00001.tar"
        tar.write_bytes(tar.read_bytes()[512:])
        return source

    monkeypatch.setattr(fsctrain.setup, "open_source", open_then_change)
    with pytest.raises(FsckitError, match=r"00001.tar: sample '\d\d' is no longer at the off"):
        train(config)
