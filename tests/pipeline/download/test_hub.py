"""Fetches repositories from a hub on loopback, over real HTTP."""

from __future__ import annotations

import io
import os
import random
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fscdata.download.http import RetryPolicy
from fscdata.download.hub import HubFetched, list_files
from fscdata.download.run import download, plan
from support.hub_server import STALE_TOKEN, TOKEN, HubRepository, HubServer
from support.manifests import manifest

OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"
NAME = "somebody/images"
QUICK = RetryPolicy(first_wait=0.01, longest_wait=0.01)
TARS = [f"{i:05d}.tar" for i in range(3)]
# Fetches into the folder argv[1], as a process that can be killed.
SCRIPT = f"""
import sys
from pathlib import Path
from fscdata.base.errors import FsckitError
from fscdata.download.hub import list_files
try:
    repository = list_files({NAME!r})
    files = repository.select(["*.tar"])
    list(repository.fetch_files(files, Path(sys.argv[1]), lambda n: None))
except FsckitError as error:
    sys.exit(str(error))
"""


def tar(seed: object, size: int = 200_000) -> bytes:
    """A tar of one file with this many bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("0.jpg")
        member.size = size
        archive.addfile(member, io.BytesIO(random.Random(str(seed)).randbytes(size)))
    return buffer.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """Two commits of one repository; the libraries' waits are cut short."""
    new = {name: tar(name) for name in TARS} | {
        ".gitattributes": b"*.tar filter=lfs",
        "README.md": b"images",
        "more/captions #1.json": b'{"a": 1}',
    }
    old = {"00000.tar": tar("old")}
    repository = HubRepository({OLD: old, NEW: new}, {"main": NEW, "v1": OLD})
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    with HubServer({NAME: repository}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
        yield server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with the given options; a second call remounts it."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> Path:
        if os.path.ismount(disk):
            options = f"remount,{options}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a file system: {done.stderr.strip()}")
        return disk

    yield mount
    subprocess.run(["umount", str(disk)], capture_output=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


def fetch(
    folder: Path,
    *patterns: str,
    progress: Callable[[int], object] = int,
    revision: str | None = None,
) -> list[HubFetched]:
    repository = list_files(NAME, revision)
    files = repository.select(patterns or ["*.tar"])
    fetched = repository.fetch_files(files, folder, progress, policy=QUICK)
    return sorted(fetched, key=lambda file: file.path)  # they arrive in any order


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too, without locks; none may be a link."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def tars(hub: HubServer, commit: str = NEW) -> dict[str, bytes]:
    files = hub.repositories[NAME].commits[commit]
    return {path: content for path, content in files.items() if path.endswith(".tar")}


@pytest.mark.parametrize(
    ("revision", "commit"), [(None, NEW), ("main", NEW), ("v1", OLD), (OLD, OLD)]
)
def test_resolves_a_revision_to_a_commit(hub: HubServer, revision: str | None, commit: str) -> None:
    repository = list_files(NAME, revision)
    assert repository.commit == commit
    contents = hub.repositories[NAME].commits[commit]
    assert {file.path: file.size for file in repository.files} == {
        path: len(content) for path, content in contents.items()
    }
    assert all((file.sha256 is None) != file.path.endswith(".tar") for file in repository.files)


def test_reads_a_long_list_in_pages(hub: HubServer) -> None:
    hub.page = 2
    assert len(list_files(NAME).files) == 6
    pages = hub.asked("/tree/")
    assert len(pages) == 4
    assert all(f"/tree/{NEW}?" in page.path for page in pages)  # a branch may move meanwhile


def test_fetches_only_the_named_files(hub: HubServer, folder: Path) -> None:
    fetched = fetch(folder, "{00000..00001}.tar", "*/captions*.json")
    assert files_in(folder) == {
        path: hub.repositories[NAME].commits[NEW][path]
        for path in ("00000.tar", "00001.tar", "more/captions #1.json")
    }
    assert [file.path for file in fetched] == ["00000.tar", "00001.tar", "more/captions #1.json"]
    assert all(len(file.sha256) == 64 and NEW in file.address for file in fetched)


def test_a_rerun_requests_only_the_list(hub: HubServer, folder: Path) -> None:
    first = fetch(folder)
    hub.requests.clear()
    assert fetch(folder) == first
    assert all(request.path.startswith("/api/") for request in hub.requests)


def test_restores_missing_short_and_changed_files(hub: HubServer, folder: Path) -> None:
    fetch(folder)
    (folder / "00000.tar").unlink()
    os.truncate(folder / "00001.tar", 1000)
    with (folder / "00002.tar").open("r+b") as file:
        file.write(b"damaged")
    fetch(folder)
    assert files_in(folder) == tars(hub)


def test_follows_a_branch_that_moved(hub: HubServer, folder: Path) -> None:
    fetch(folder, revision="v1")
    fetch(folder)
    assert files_in(folder) == tars(hub)


def test_survives_a_bad_network(hub: HubServer, folder: Path) -> None:
    hub.unavailable, hub.drops = 3, 4
    seen: list[int] = []
    fetch(folder, progress=seen.append)
    assert files_in(folder) == tars(hub)
    assert sum(seen) == sum(map(len, tars(hub).values()))
    assert any(request.range for request in hub.asked("?of="))


@pytest.mark.slow
def test_resumes_after_kills(hub: HubServer, folder: Path) -> None:
    hub.seconds_per_block = 0.05
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    for kill in range(1, 6):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until(lambda: hub.sent > kill * 60_000, process)  # noqa: B023 (called at once)
        process.send_signal(signal.SIGKILL)
        process.wait()
        complete = {path: content for path, content in files_in(folder).items() if path in TARS}
        assert complete.items() < tars(hub).items()
    hub.seconds_per_block = 0
    hub.requests.clear()
    assert subprocess.run(command, check=False).returncode == 0
    assert files_in(folder) == tars(hub)
    assert any(request.range for request in hub.asked("?of="))


def until(happens: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not happens():
        assert process.poll() is None, "it ended too early"
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("silent", [False, True])
def test_an_interrupt_ends_the_download_at_once(silent: bool, hub: HubServer, folder: Path) -> None:
    """From a slow hub, and from a silent one, whose timeout is a minute."""
    hub.repositories[NAME].commits[NEW]["00001.tar"] = tar("large", size=20_000_000)
    hub.seconds_per_block = 1000 if silent else 0.05
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)], stderr=subprocess.PIPE, text=True
    )
    until(lambda: len(hub.asked("?of=")) >= 2 if silent else hub.sent > 60_000, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert hub.sent < 10_000_000


def test_progress_includes_earlier_bytes(hub: HubServer, folder: Path) -> None:
    hub.drops = 1000
    with pytest.raises(FsckitError, match=r"disconnected \("):
        once = replace(QUICK, attempts=1)
        repository = list_files(NAME)
        list(repository.fetch_files(repository.select(["*.tar"]), folder, int, policy=once))
    hub.drops = 0
    seen: list[int] = []
    fetch(folder, progress=seen.append)
    assert sum(seen) == sum(map(len, tars(hub).values()))
    assert any(request.range for request in hub.asked("?of="))


def test_resumes_after_a_full_disk(hub: HubServer, small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("size=400k")
    with pytest.raises(FsckitError, match=r"No space left on device\); free some space"):
        fetch(disk)
    assert files_in(disk).keys() & set(TARS) < set(TARS)
    small_disk("size=16m")
    fetch(disk)
    assert files_in(disk) == tars(hub)


def test_a_gated_repository_needs_a_token(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME].token = TOKEN
    for token in (None, "hf_of_someone_else"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(FsckitError, match=f"is gated; request access.*{hub.url}.*HF_TOKEN"):
            fetch(folder, "*")
        assert not folder.exists() or files_in(folder) == {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fetch(folder, "*")
    contents = hub.repositories[NAME].commits[NEW]
    assert files_in(folder) == {p: content for p, content in contents.items() if p[0] != "."}
    assert {request.token for request in hub.asked("?of=")} == {None}


def test_reports_a_stale_token(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", STALE_TOKEN)
    with pytest.raises(FsckitError, match="returned 401; set HF_TOKEN to a valid token"):
        fetch(folder)


def test_uses_the_token_of_the_login(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    hub.repositories[NAME].token = TOKEN
    (tmp_path / "token").write_text(TOKEN)
    environment = {**os.environ, "HF_TOKEN_PATH": str(tmp_path / "token")}
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, files_in(folder)) == (0, tars(hub)), done.stderr


@pytest.mark.parametrize(
    ("name", "revision", "sentence"),
    [
        ("somebody/nothing", None, "no such data set repository"),
        ("some body/no/name", None, "write OWNER/NAME"),
        (NAME, "v9", "unknown revision 'v9'"),
    ],
)
def test_reports_an_unknown_repository_or_revision(
    hub: HubServer, name: str, revision: str | None, sentence: str
) -> None:
    with pytest.raises(FsckitError, match=sentence) as error:
        list_files(name, revision)
    assert "\n" not in str(error.value)


def test_reports_an_unreachable_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(FsckitError, match=r"cannot be reached \(.*refused.*check the network"):
            list_files(NAME)


@pytest.mark.slow
def test_obeys_the_offline_variable(hub: HubServer, folder: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "HF_HUB_OFFLINE is set, which forbids requests to the hub; unset it" in done.stderr
    assert (done.returncode, done.stderr.count("\n"), hub.requests) == (1, 1, [])


def test_reports_a_hub_out_of_service(hub: HubServer) -> None:
    hub.unavailable = 100
    with pytest.raises(FsckitError, match="returned 503; retry later"):
        list_files(NAME)


def test_reports_a_server_that_is_not_a_hub(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.hub_server.json.dumps", lambda content: "<html>Welcome</html>")
    with pytest.raises(FsckitError, match="does not behave like a Hugging Face hub"):
        list_files(NAME)


def test_refuses_files_that_differ_from_the_list(hub: HubServer, folder: Path) -> None:
    repository = hub.repositories[NAME]
    listed = list_files(NAME)
    repository.lost = {"00001.tar"}
    with pytest.raises(FsckitError, match=r"lists '00001.tar' .* but does not have it"):
        fetch(folder)
    repository.lost = set()
    repository.commits[NEW]["00001.tar"] = tar("other", size=100_000)
    with pytest.raises(FsckitError, match=r"00001\.tar: .* bytes, not 2"):
        list(listed.fetch_files(listed.select(["*.tar"]), folder, int, policy=QUICK))
    repository.commits[NEW]["00001.tar"] = tar("other")
    with pytest.raises(FsckitError, match=r"00001\.tar: .* sha256"):
        list(listed.fetch_files(listed.select(["*.tar"]), folder, int, policy=QUICK))
    assert not (folder / "00001.tar").exists()


def test_a_failure_stops_the_other_files(hub: HubServer, folder: Path) -> None:
    hub.repositories[NAME].commits[NEW]["00000.tar"] = tar("large", size=4_000_000)
    hub.repositories[NAME].lost = {"00002.tar"}
    hub.seconds_per_block = 0.01
    with pytest.raises(FsckitError, match=r"00002\.tar"):
        fetch(folder)
    assert not (folder / "00000.tar").exists()


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("{00000..00003}.tar", "has no '00003.tar'"),
        ("*.zip", r"has no '\*.zip'"),
        ("{00000..00003.tar", "a brace is not closed"),
    ],
)
def test_reports_a_pattern_without_files(hub: HubServer, pattern: str, sentence: str) -> None:
    with pytest.raises(FsckitError, match=sentence):
        list_files(NAME).select([pattern])


@pytest.mark.parametrize(
    "path",
    ["../evil.tar", "/evil.tar", "a/../../evil.tar", "a//evil.tar", "..\\evil.tar", "\n.tar"],
)
def test_refuses_a_path_out_of_the_folder(hub: HubServer, folder: Path, path: str) -> None:
    hub.repositories[NAME].commits[NEW][path] = tar("evil")
    with pytest.raises(FsckitError, match="could leave the folder"):
        fetch(folder)
    assert not folder.exists()
    assert not hub.asked("resolve", "HEAD")


def test_reports_a_folder_that_cannot_be_written(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FsckitError, match=r"file.*: cannot be") as error:
        fetch(tmp_path / "file")
    assert "\n" not in str(error.value)


def test_a_missing_library_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "fscdata.download.hub")
    fields = {"kind": "huggingface", "repository": NAME, "files": ["README.md"]}
    with pytest.raises(FsckitError, match=r"pip install 'fsckit\[download\]'"):
        plan(manifest(tmp_path, **fields))
    with pytest.raises(FsckitError, match=r"pip install 'fsckit\[download\]'"):
        download(manifest(tmp_path, **fields), folder)
