"""The plot of runs: its curves, and the errors for folders without any."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.figure
import pytest
from PIL import Image

from fscdata.base.errors import FsckitError
from fsctrain.plot import plot_runs
from support.commands import command


def write_run(folder: Path, rate: float, *, styles: bool = True, scores: bool = True) -> Path:
    folder.mkdir(parents=True)
    records = []
    for step in (10, 20, 30):
        preferred = {"a": step / 40, "b": None if step == 10 else 0.5} if styles else {}
        records.append(
            {"step": step, "epoch": 0, "loss": rate / step, "lr": rate, "prefers_true": preferred}
            | {"samples_per_second": 9.0}
        )
    if scores:
        records.append({"step": 30, "scores": {"choice/a": 0.5, "score": 0.25}})
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(text)
    return folder


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[matplotlib.figure.Figure]:
    """The saved figures."""
    saved, save = [], matplotlib.figure.Figure.savefig

    def savefig(figure: matplotlib.figure.Figure, *args: object, **options: object) -> None:
        saved.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    return saved


def drawn(figure: matplotlib.figure.Figure) -> dict[str, list[list[tuple[float, float]]]]:
    """The points of each curve, by panel title."""
    return {
        axes.get_title(): [
            list(zip(*(part.tolist() for part in line.get_data()), strict=True))
            for line in axes.lines
        ]
        for axes in figure.axes
    }


@pytest.mark.slow
def test_plots_runs_side_by_side(tmp_path: Path, figures, capsys) -> None:
    one = write_run(tmp_path / "one", 1.0)
    other = write_run(tmp_path / "other", 3.0, styles=False, scores=False)
    out = tmp_path / "plots" / "runs.png"
    assert command("plot", one, other, "--out", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert Image.open(out).size[0] == 1600 and len(list(out.parent.iterdir())) == 1
    (figure,) = figures
    curves = drawn(figure)
    assert curves["training: loss"] == [
        [(step, pytest.approx(rate / step)) for step in (10, 20, 30)] for rate in (1, 3)
    ]
    assert curves["training: prefers the true caption"] == [
        [(10, 0.25), (20, 0.5), (30, 0.75)],
        [(20, 0.5), (30, 0.5)],
    ]
    assert curves["validation: prefers the true caption"] == [[(30, 0.5)]]
    assert curves["validation: other scores"] == [[(30, 0.25)]]
    assert len(curves["learning rate"]) == len(curves["samples per second"]) == 2
    legend = figure.legends[0].get_texts()
    assert [text.get_text() for text in legend] == ["one", "other"]


def test_panels_without_data_are_left_out(tmp_path: Path, figures) -> None:
    plot_runs([write_run(tmp_path / "x", 1.0, styles=False, scores=False)], tmp_path / "x.png")
    assert list(drawn(figures[0])) == ["training: loss", "learning rate", "samples per second"]


@pytest.mark.slow
def test_runs_of_the_same_name_are_labelled_by_path(tmp_path: Path, figures) -> None:
    runs = [write_run(tmp_path / place / "run", 1.0) for place in ("a", "b")]
    plot_runs(runs, tmp_path / "runs.png")
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == list(map(str, runs))
    with pytest.raises(FsckitError, match=r"a/run: listed twice"):
        plot_runs([runs[0], runs[0]], tmp_path / "twice.png")


def test_runs_without_metrics_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1.0)
    out = tmp_path / "runs.png"
    with pytest.raises(FsckitError, match=r"nowhere/metrics.jsonl: file not found; expected the"):
        plot_runs([run, tmp_path / "nowhere"], out)
    (run / "metrics.jsonl").write_text('{"step": 0, "scores": {"score": 1}}\n{"step": 1')
    with pytest.raises(FsckitError, match=r"run/metrics.jsonl: no training record yet"):
        plot_runs([run], out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ('"loss": {}', "training: loss"),
        ('"loss": 1, "lr": "fast"', "learning rate"),
        (f'"loss": 1{"0" * 400}', "training: loss"),
        ('"loss": 1, "prefers_true": {"a": []}', "training: prefers the true caption"),
        ('"scores": []', "validation: prefers the true caption"),
        ('"scores": null', "validation: prefers the true caption"),
    ],
)
def test_records_without_numbers_are_refused(values: str, title: str, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", 1.0) / "metrics.jsonl"
    with path.open("a") as file:
        file.write(f'{{"step": 40, {values}}}\n')
    with pytest.raises(FsckitError) as error:
        plot_runs([path.parent], tmp_path / "runs.png")
    assert str(error.value) == f"{path}: step 40: '{title}' is not a number"
