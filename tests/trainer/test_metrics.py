"""The lines of metrics.jsonl: sums over steps and ranks, and which lines a resume keeps."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from fscdata.base.errors import FsckitError
from fsctrain.distributed import Ranks
from fsctrain.losses import Features
from fsctrain.metrics import Metrics
from fsctrain.records import read_metrics

STYLES = ("colour", "shape")
NEAR, FAR = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def features(near: list[list[bool | None]]) -> Features:
    """Rows with the caption at 45° to the image; a negative is nearer, farther or missing."""
    rows = len(near)
    caption = torch.tensor([0.5, 0.5]).sqrt()
    negatives = [(NEAR if n else FAR)[None] for row in near for n in row]
    return Features(
        images=NEAR.expand(rows, 2),
        texts=caption.expand(rows, 2),
        negatives=torch.cat([torch.zeros(0, 2), *negatives]).view(rows, 2, 2),
        negative_mask=torch.tensor([[n is not None for n in r] for r in near], dtype=bool).view(
            rows, 2
        ),
        logit_scale=torch.tensor(14.0),
    )


def step(metrics: Metrics, loss: float, near: list[list[bool | None]], **numbers: float) -> None:
    given = {"tokens": 0, "waited": 0.0, "took": 1.0, "grad_norm": 1.0} | numbers
    norm = torch.tensor(given.pop("grad_norm"))
    losses = {"loss": torch.tensor(loss), "clip": torch.tensor(loss / 2)}
    metrics.add(losses, features(near), **given, grad_norm=norm)


def make(path: Path, **options: object) -> Metrics:
    return Metrics(path, STYLES, lambda record: None, **options)


def test_a_line_is_a_mean_over_steps(tmp_path: Path) -> None:
    path, seen = tmp_path / "metrics.jsonl", []
    metrics = Metrics(path, STYLES, seen.append)
    metrics.log(0, 0, 1.0)
    assert not path.exists()  # no step, no line
    step(metrics, 1.0, [[False, None], [True, None]], tokens=30, waited=1, took=2, grad_norm=2.0)
    step(metrics, 3.0, [[False, None], [None, None]], tokens=10, waited=2, took=3, grad_norm=4.0)
    metrics.log(2, 1, 0.25)
    (record,) = read_metrics(path)
    assert seen == [record]
    assert record.pop("peak_memory_gb") > 0.01
    assert record.pop("prefers_true") == {"colour": pytest.approx(2 / 3), "shape": None}
    assert record == {
        "step": 2,
        "epoch": 1,
        "loss": 2.0,
        "clip": 1.0,
        "lr": 0.25,
        "grad_norm": 3.0,
        "logit_scale": 14.0,
        "with_negatives": 0.75,
        "samples_per_second": 0.5,
        "tokens_per_second": 5.0,
        "data_seconds": 1.5,
        "step_seconds": 2.5,
    }
    step(metrics, 7.0, [[None, True]], grad_norm=float("inf"))
    metrics.log(3, 1, 0.25)
    metrics.scores(3, {"score": 0.5})
    last, scores = read_metrics(path)[1:]
    assert last["loss"] == 7 and last["grad_norm"] is None  # without the steps of the previous line
    assert last["prefers_true"] == {"colour": None, "shape": 0.0}
    assert scores == {"step": 3, "scores": {"score": 0.5}} == seen[-1]
    assert "Infinity" not in path.read_text()


def test_several_ranks_write_the_same_line_as_one(tmp_path: Path) -> None:
    """One of two ranks has no rows."""
    barrier, given = threading.Barrier(2, timeout=30), {}

    class Threads(Ranks):
        """Two ranks that are threads."""

        def _reduced(self, tensor: Tensor, operation: object) -> Tensor:
            given[self.rank] = tensor
            barrier.wait()
            both = torch.stack([given[0], given[1]])
            barrier.wait()
            return both.sum(0) if operation == dist.ReduceOp.SUM else both.amax(0)

    rows = [[False, None], [True, True], [None, None]]
    one = make(tmp_path / "one.jsonl")
    step(one, 2.0, rows, tokens=20, waited=1.5, took=3.0)
    one.log(1, 0, 1.0)

    def run(rank: int) -> None:
        metrics = make(tmp_path / f"{rank}.jsonl", ranks=Threads(rank, 2))
        times = {"waited": 1.0 + rank, "took": 3.5 - rank}
        step(metrics, 2.0 - 2 * rank, [] if rank else rows, tokens=15 - 10 * rank, **times)
        metrics.log(1, 0, 1.0)
        metrics.scores(1, {"score": 1.0})

    ranks = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    expected, found = read_metrics(tmp_path / "one.jsonl")[0], read_metrics(tmp_path / "0.jsonl")
    expected.pop("peak_memory_gb"), found[0].pop("peak_memory_gb")
    assert found == [expected, {"step": 1, "scores": {"score": 1.0}}]
    assert not (tmp_path / "1.jsonl").exists()


def test_reports_a_full_disk() -> None:
    metrics = make(Path("/dev/full"))
    step(metrics, 1.0, [[True, None]])
    with pytest.raises(FsckitError, match=r"/dev/full: cannot be written .*No space left"):
        metrics.log(1, 0, 0.1)


def test_a_resume_removes_later_lines(tmp_path: Path) -> None:
    """It removes lines of repeated steps, a partial last line, and the scores at the saved step,
    since scoring follows the save.
    """
    path = tmp_path / "metrics.jsonl"
    metrics = make(path)
    for number in range(1, 5):
        step(metrics, float(number), [[True, True]])
        metrics.log(number, 0, 1.0)
        metrics.scores(number, {"score": 0.5})
    kept = path.read_text().splitlines(keepends=True)[:3]
    with path.open("a") as file:
        file.write('{"step": 5, "ep')
    other = make(tmp_path / "other.jsonl", resumed_at=2)  # killed before its first line
    step(other, 1.0, [[True, True]])
    other.log(3, 0, 1.0)
    assert len(read_metrics(tmp_path / "other.jsonl")) == 1

    make(path, resumed_at=2, ranks=Ranks(1, 2))
    assert path.read_text().count("\n") == 8  # another rank does not touch the file
    metrics = make(path, resumed_at=2)
    assert path.read_text() == "".join(kept)
    step(metrics, 3.0, [[True, True]])
    metrics.log(3, 0, 1.0)
    assert [record["step"] for record in read_metrics(path)] == [1, 1, 2, 3]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "other.jsonl"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"loss": 1}', '{"step": null}'])
def test_refuses_a_file_without_metrics_records(line: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + f"\n{line}\n")
    with pytest.raises(FsckitError, match=r"metrics.jsonl: line 2 is not a metrics record"):
        read_metrics(path)
    with pytest.raises(FsckitError, match="file not found; expected the metrics of a run"):
        read_metrics(tmp_path / "nowhere.jsonl")
