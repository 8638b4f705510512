"""Kills or interrupts a download at each of its steps, and reruns the command."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.file_server import FileServer, Served
from support.hub_server import HubRepository, HubServer
from support.manifests import manifest
from support.tars import img2dataset_sample, jpeg

pytestmark = pytest.mark.slow

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TRAIN, VALID = 1200, 600  # images of the archive; packing them is slow enough to be killed
TARS, SAMPLES = 8, 300  # per repository, and per tar


@dataclass(frozen=True)
class Source:
    """A data set behind a server that can be slow, and the result of an undisturbed download."""

    manifest: Path
    environment: dict[str, str]
    slow: Callable[[bool], None]
    resumed: Callable[[], bool]  # whether a file was requested from its middle
    undisturbed: Path

    def start(self, data: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fscdata", "download", str(self.manifest), str(data)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment, start_new_session=True,
        )  # fmt: skip

    def finish(self, data: Path) -> None:
        """Rerun the command; the result equals an undisturbed one."""
        process = self.start(data)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "left out: nothing" in output
        assert tree(data) == tree(self.undisturbed)


def tree(folder: Path) -> dict[str, Any]:
    """Every file and folder, hidden ones too; the record without its date."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.name == "SOURCE.json":
            record = json.loads(path.read_text())
            record["files"] = {file["name"]: file for file in record["files"]}  # in any order
            found[name] = record | {"date": None}
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def check_nothing_half_written(data: Path, undisturbed: Path) -> None:
    """Check that files with their final names are final and the record is not complete."""
    final = tree(undisturbed)
    for name, content in tree(data).items():
        if name == "SOURCE.json":
            assert content["complete"] is False
        elif name.endswith(".zip"):
            assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None
        elif not any(part.startswith(".") for part in Path(name).parts):
            assert name in final, f"{name} is not part of the data set"
            assert content == final[name], f"{name} is half-written"


@contextmanager
def served_archive(place: Path) -> Iterator[Source]:
    """A zip of images, and two caption files that become shards in two folders."""
    numbers = {"train": range(TRAIN), "valid": range(TRAIN, TRAIN + VALID)}
    some = [jpeg((i, 255 - i, 90)) for i in range(100)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(TRAIN + VALID):
            archive.writestr(f"images/{i:06d}.jpg", some[i % len(some)])
    contents = {"images.zip": buffer.getvalue()}
    for split, rows in numbers.items():
        lines = [f"{i:06d}.jpg,Image {i} of {split}.\n" for i in rows]
        contents[f"{split}.csv"] = "".join(["image,caption\n", *lines]).encode()
    with FileServer() as server:
        files = [
            {"name": name, "addresses": [server.serve(name, Served(content))]}
            for name, content in contents.items()
        ]
        manifest(
            place,
            kind="archive",
            archives=files[:1],
            caption_files=files[1:],
            packs=[{"captions": "train.csv"}, {"captions": "valid.csv", "folder": "valid"}],
        )

        def slow(is_slow: bool) -> None:
            server.files["/images.zip"].pause = 0.02 if is_slow else 0.0

        yield undisturbed(
            Source(
                place / "small.yaml",
                dict(os.environ),
                slow,
                lambda: any(asked.range for asked in server.asked),
                place / "undisturbed",
            )
        )


@contextmanager
def served_repository(place: Path) -> Iterator[Source]:
    """A repository of tars whose captions are in an archive, like CC3M-100K's."""
    files, captions = {}, []
    for shard in range(TARS):
        keys = [f"{shard:05d}{i:04d}" for i in range(SAMPLES)]
        members = [member for key in keys for member in img2dataset_sample(key, "web text")]
        files[f"{shard:05d}.tar"] = tar_of(members, "w")
        captions += [(f"coca_captions/{key}.txt", f"Image {key}.".encode()) for key in keys]
    files["coca_captions.tar.gz"] = tar_of(captions, "w:gz")
    repository = HubRepository({COMMIT: files}, {"main": COMMIT})
    with HubServer({"someone/subset": repository}) as server:
        manifest(
            place,
            kind="huggingface",
            repository="someone/subset",
            shards=["*.tar"],
            caption_archive={"file": "coca_captions.tar.gz", "folder": "coca_captions"},
        )

        def slow(is_slow: bool) -> None:
            server.seconds_per_block = 0.02 if is_slow else 0.0

        others = {k: v for k, v in os.environ.items() if k != "HF_TOKEN"}
        yield undisturbed(
            Source(
                place / "small.yaml",
                others | {"HF_ENDPOINT": server.url},
                slow,
                lambda: any(request.range for request in server.asked("/")),
                place / "undisturbed",
            )
        )


def undisturbed(source: Source) -> Source:
    process = source.start(source.undisturbed)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    hidden = [name for name in tree(source.undisturbed) if "/." in f"/{name}"]
    assert hidden == [".fscdata.lock"], "no temporary file is left"
    return source


def tar_of(members: list[tuple[str, bytes]], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    with served_archive(tmp_path_factory.mktemp("archive")) as source:
        yield source


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    with served_repository(tmp_path_factory.mktemp("repository")) as source:
        yield source


def kill_when(source: Source, data: Path, far_enough: Callable[[], bool]) -> None:
    """Run the command, kill it once it is far enough, and check the folder."""
    process = source.start(data)
    end = time.monotonic() + 60
    while not far_enough():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    check_nothing_half_written(data, source.undisturbed)


@pytest.mark.parametrize("folder", [".", "valid"])
def test_resumes_after_a_kill_while_packing(archive: Source, folder: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    whole = (archive.undisturbed / folder / "shards" / "00000.tar").stat().st_size

    def written() -> int:
        return sum(size(path) for path in (data / folder / ".packing").glob(".*.tmp"))

    for share in (0.0, 0.5):
        kill_when(archive, data, lambda share=share: written() > share * whole)
        assert not (data / folder / "shards").exists()
        assert (data / "shards").exists() == (folder == "valid"), "a packed folder stays"
    archive.finish(data)


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it has just been renamed
        return 0


def test_resumes_after_a_kill_while_unpacking(repository: Source, tmp_path: Path) -> None:
    data = tmp_path / "data"
    staging = data / ".coca_captions.tmp" / "coca_captions"
    for share in (0.0, 0.3, 0.6):
        files = share * TARS * SAMPLES
        kill_when(
            repository,
            data,
            lambda files=files: staging.is_dir() and len(list(staging.iterdir())) > files,
        )
        assert not (data / "coca_captions").exists()
        assert not (data / "shards").exists()
    repository.finish(data)


def test_resumes_after_a_kill_while_counting(repository: Source, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for wait in (0.0, 0.05, 0.1):
        process = repository.start(data)
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("counting: 1 of 8 shards") for line in lines)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        check_nothing_half_written(data, repository.undisturbed)
    repository.finish(data)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("kind", ["archive", "repository"])
def test_resumes_after_a_signal_while_fetching(
    request: pytest.FixtureRequest,
    kind: str,
    number: signal.Signals,
    code: int,
    tmp_path: Path,
) -> None:
    source: Source = request.getfixturevalue(kind)
    data = tmp_path / "data"
    source.slow(True)
    try:
        process = source.start(data)
        until_parts_come(data)
        os.killpg(process.pid, number)  # as a terminal or a scheduler sends it
        _, errors = process.communicate(timeout=30)
    finally:
        source.slow(False)
    assert process.returncode == code, errors
    terms, *said = errors.splitlines()
    assert "licence: " in terms
    said = [line for line in said if not line.startswith(("fetching: ", "getting sizes: "))]
    assert said == ["fscdata: stopped; rerun the same command to resume the download"]
    check_nothing_half_written(data, source.undisturbed)
    source.finish(data)
    assert source.resumed()


def until_parts_come(data: Path) -> None:
    """Wait for the first bytes of a slow zip or tar."""
    end = time.monotonic() + 60
    while not any(size(path) > 2**16 for path in data.rglob(".*.[zt][ia][pr].tmp")):
        assert time.monotonic() < end
        time.sleep(0.01)
