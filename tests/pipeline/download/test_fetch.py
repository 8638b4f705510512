"""Fetches files over real HTTP on loopback, from a server with the faults of a bad network."""

from __future__ import annotations

import hashlib
import json
import random
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fscdata.base.errors import FsckitError
from fscdata.download.fetch import Fetched, fetch_file
from fscdata.download.http import RetryPolicy
from support.file_server import HTML, Answer, Change, Drop, FileServer, Served, Stall

DATA = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
HALF = 150_000


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as made:
        yield made


@pytest.fixture
def waits() -> list[float]:
    """The waits in seconds, recorded instead of slept."""
    return []


@pytest.fixture
def policy(waits: list[float]) -> RetryPolicy:
    return RetryPolicy(attempts=4, timeout=0.5, sleep=waits.append)


def left(folder: Path) -> list[str]:
    """The files of a folder, without locks."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises(FsckitError) as caught:
        fetch_file(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def part(server: FileServer, target: Path, file: Served, policy: RetryPolicy) -> str:
    """Leave the first half of a file, as after a kill; returns its address. The log is cleared."""
    address = server.serve("file.bin", file)
    file.faults[:0] = [Drop(HALF), *[Answer(503)] * policy.attempts]
    refused([address], target, policy=policy)
    assert not target.exists()
    file.faults.clear()
    server.asked.clear()
    server.sent = 0
    return address


def test_fetches_a_file(server: FileServer, tmp_path: Path) -> None:
    came: list[int] = []
    address = server.serve("file.bin", DATA)
    fetched = fetch_file([address], tmp_path / "deep" / "file.bin", progress=came.append)
    assert (tmp_path / "deep" / "file.bin").read_bytes() == DATA
    tag = server.files["/file.bin"].tag
    assert fetched == Fetched(address, len(DATA), DIGEST, tag)
    assert sum(came) == len(DATA) and len(came) > 1
    assert left(tmp_path / "deep") == ["file.bin"]


def test_fetches_an_empty_file(server: FileServer, tmp_path: Path) -> None:
    assert fetch_file([server.serve("empty", b"")], tmp_path / "empty", size=0).size == 0
    assert (tmp_path / "empty").read_bytes() == b""


def test_an_existing_file_needs_no_request(server: FileServer, tmp_path: Path) -> None:
    target, came = tmp_path / "file.bin", []
    target.write_bytes(DATA)
    address = server.serve("file.bin", DATA)
    fetched = fetch_file(
        [address], target, size=len(DATA), sha256=DIGEST.upper(), progress=came.append
    )
    assert fetched == Fetched(None, len(DATA), DIGEST, None)
    assert server.asked == [] and came == [len(DATA)]


@pytest.mark.parametrize("there", [DATA[:-1], OTHER])
def test_replaces_a_file_of_another_size_or_digest(
    server: FileServer, tmp_path: Path, there: bytes
) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(there)
    fetch_file([server.serve("file.bin", DATA)], target, size=len(DATA), sha256=DIGEST)
    assert target.read_bytes() == DATA


def test_resumes_after_a_dropped_connection(
    server: FileServer, tmp_path: Path, policy: RetryPolicy, waits: list[float]
) -> None:
    came: list[int] = []
    # Twice as many drops as attempts, but each one brings new bytes.
    file = Served(DATA, [Drop(30_000)] * 8)
    target = tmp_path / "file.bin"
    fetch_file([server.serve("file.bin", file)], target, progress=came.append, policy=policy)
    assert target.read_bytes() == DATA
    assert server.sent == len(DATA) == sum(came)
    assert [asked.if_range for asked in server.asked] == [None] + [file.tag] * 8
    assert waits == [1.0] * 8


def test_resumes_after_a_server_falls_silent(
    server: FileServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    file = Served(DATA, [Stall(HALF)])
    fetch_file([server.serve("file.bin", file)], tmp_path / "file.bin", policy=policy)
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert server.asked[1].range == f"bytes={HALF}-"


def test_the_next_process_resumes(server: FileServer, tmp_path: Path, policy: RetryPolicy) -> None:
    target, came = tmp_path / "file.bin", []
    address = part(server, target, Served(DATA), policy)
    fetch_file([address], target, sha256=DIGEST, progress=came.append)
    assert target.read_bytes() == DATA
    assert server.sent == len(DATA) - HALF
    assert came[0] == HALF and sum(came) == len(DATA)
    assert left(tmp_path) == ["file.bin"]


def test_a_complete_partial_file_needs_no_request(
    server: FileServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA), policy)
    (tmp_path / ".file.bin.tmp").write_bytes(DATA)
    assert fetch_file([address], target).sha256 == DIGEST
    assert server.asked == [] and left(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("obeys", [True, False])
def test_restarts_on_a_changed_etag(
    server: FileServer, tmp_path: Path, policy: RetryPolicy, obeys: bool
) -> None:
    target, came = tmp_path / "file.bin", []
    file = Served(DATA, obeys_if_range=obeys)
    address = part(server, target, file, policy)
    file.faults.append(Change(OTHER))
    fetch_file([address], target, progress=came.append, policy=policy)
    assert target.read_bytes() == OTHER
    assert sum(came) == len(OTHER) and min(came) < 0


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_strong_etag_restarts_unless_a_digest_is_known(
    server: FileServer, tmp_path: Path, policy: RetryPolicy, etag: str | None
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA, etag=etag), policy)
    assert fetch_file([address], target).etag is None
    assert server.asked[0].range is None and target.read_bytes() == DATA

    target.unlink()
    address = part(server, target, Served(DATA, etag=etag), policy)
    fetch_file([address], target, sha256=DIGEST)
    assert server.asked[0].range == f"bytes={HALF}-" and target.read_bytes() == DATA


def test_restarts_from_a_server_without_ranges(
    server: FileServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA, ranges=False), policy)
    fetch_file([address], target)
    assert server.asked[0].range is not None and target.read_bytes() == DATA


def test_gives_up_on_a_server_without_ranges_that_always_drops(
    server: FileServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    file = Served(DATA, [Drop(HALF)] * 100, ranges=False)
    sentence = refused([server.serve("file.bin", file)], tmp_path / "f", policy=policy)
    assert "4 times in a row" in sentence
    assert len(server.asked) == 1 + 4 - 1  # the first one brought new bytes


def test_hashes_all_of_a_resumed_file(
    server: FileServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA), policy)
    (tmp_path / ".file.bin.tmp").write_bytes(OTHER[:HALF])  # a faulty disk
    fetch_file([address], target, sha256=DIGEST, policy=policy)
    assert target.read_bytes() == DATA
    assert [asked.range for asked in server.asked] == [f"bytes={HALF}-", None]


@pytest.mark.parametrize("kept", ["{", '{"address": 3}', "[]"])
def test_restarts_a_partial_file_with_a_damaged_record(
    server: FileServer, tmp_path: Path, policy: RetryPolicy, kept: str
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA), policy)
    (tmp_path / ".file.bin.origin.tmp").write_text(kept)
    fetch_file([address], target)
    assert target.read_bytes() == DATA and server.asked[0].range is None
    assert left(tmp_path) == ["file.bin"]


def test_refuses_a_wrong_digest(server: FileServer, tmp_path: Path) -> None:
    address = server.serve("file.bin", OTHER)
    sentence = refused([address], tmp_path / "file.bin", sha256=DIGEST)
    assert DIGEST in sentence and hashlib.sha256(OTHER).hexdigest() in sentence
    assert address in sentence and str(tmp_path / "file.bin") in sentence
    assert left(tmp_path) == [] and len(server.asked) == 1


def test_refuses_a_wrong_size_before_fetching(server: FileServer, tmp_path: Path) -> None:
    address = server.serve("file.bin", DATA)
    sentence = refused([address], tmp_path / "file.bin", size=len(DATA) + 1)
    assert "has 300,000 bytes, not 300,001" in sentence
    assert left(tmp_path) == []


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_refuses_a_wrong_size_that_was_not_announced(
    server: FileServer, tmp_path: Path, policy: RetryPolicy, size: int
) -> None:
    address = server.serve("file.bin", Served(DATA, chunked=True))
    refused([address], tmp_path / "file.bin", size=size, policy=policy)
    assert left(tmp_path) == []


def test_fetches_a_file_of_unannounced_size(
    server: FileServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    file = Served(DATA, [Drop(HALF)], chunked=True)
    fetch_file([server.serve("file.bin", file)], tmp_path / "file.bin", policy=policy)
    assert (tmp_path / "file.bin").read_bytes() == DATA


@pytest.mark.parametrize("lie", [1, -1])
def test_refuses_a_file_of_false_length(
    server: FileServer, tmp_path: Path, policy: RetryPolicy, lie: int
) -> None:
    """If it is too large, the file never ends; if it is too small, the file has the wrong size."""
    address = server.serve("file.bin", Served(DATA, length=len(DATA) + lie))
    refused([address], tmp_path / "file.bin", policy=policy, sha256=DIGEST)
    assert not (tmp_path / "file.bin").exists()
    if lie > 0:
        assert len(server.asked) < 4 * policy.attempts


def test_tries_mirrors_in_turn(
    server: FileServer, tmp_path: Path, policy: RetryPolicy, waits: list[float]
) -> None:
    addresses = [
        f"{server.url}/missing",
        server.serve("other", OTHER),
        server.serve("busy", Served(DATA, [Answer(503)] * 4)),
        server.serve("good", DATA),
        server.serve("never", DATA),
    ]
    fetched = fetch_file(addresses, tmp_path / "file.bin", sha256=DIGEST, policy=policy)
    assert fetched.address == addresses[3]
    paths = [asked.path for asked in server.asked]
    assert paths == ["/missing", "/other", *["/busy"] * 4, "/good"]
    assert waits == [1.0, 2.0, 4.0]


def test_names_the_failures_of_all_mirrors(
    server: FileServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    busy = server.serve("busy", Served(DATA, [Answer(503)] * 9))
    sentence = refused([f"{server.url}/no", busy], tmp_path / "file.bin", policy=policy)
    assert f"{server.url}/no returned 404 Not Found" in sentence
    assert f"{busy} returned 503 Service Unavailable, 4 times in a row" in sentence
    assert "rerun the command later" in sentence


def test_resumes_from_another_mirror_only_with_a_digest(
    server: FileServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    """Mirrors have different ETags; only a digest shows whether their parts belong together."""
    target = tmp_path / "file.bin"
    first = part(server, target, Served(DATA), policy)
    mirror = server.serve("mirror.bin", Served(DATA, etag='"of the mirror"'))
    del server.files["/file.bin"]
    fetched = fetch_file([first, mirror], target, sha256=DIGEST, policy=policy)
    assert fetched.sha256 == DIGEST and server.sent == len(DATA) - HALF

    target.unlink()
    first = part(server, target, Served(DATA), policy)
    del server.files["/file.bin"]
    fetched = fetch_file([mirror, first], target, policy=policy)
    # The partial file's own address comes first, because it could resume there.
    assert [asked.path for asked in server.asked] == ["/file.bin", "/mirror.bin"]
    assert fetched.sha256 == DIGEST and server.sent == len(DATA)


def test_ignores_an_absurd_length(server: FileServer, tmp_path: Path, policy: RetryPolicy) -> None:
    lie = Answer(200, {"Content-Length": "9" * 5000}, DATA)
    file = Served(DATA, [lie])
    fetched = fetch_file([server.serve("file.bin", file)], tmp_path / "file.bin", policy=policy)
    assert (fetched.sha256, len(server.asked)) == (DIGEST, 1)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_retries_transient_failures(
    server: FileServer, tmp_path: Path, policy: RetryPolicy, waits: list[float], status: int
) -> None:
    address = server.serve("file.bin", Served(DATA, [Answer(status)] * 3))
    fetch_file([address], tmp_path / "file.bin", policy=policy)
    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_does_not_retry_permanent_failures(
    server: FileServer, tmp_path: Path, waits: list[float], policy: RetryPolicy, status: int
) -> None:
    address = server.serve("file.bin", Served(DATA, [Answer(status)]))
    assert f"returned {status}" in refused([address], tmp_path / "file.bin", policy=policy)
    assert waits == [] and len(server.asked) == 1


def test_respects_retry_after_up_to_a_limit(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=50))
    beyond = "Fri, 01 Jan 2027 00:00:00 +99999999999999999"
    asked = ["7", "86400", then, "soon", "0", beyond]
    file = Served(DATA, [Answer(429, {"Retry-After": value}) for value in asked])
    said: list[str] = []
    policy = RetryPolicy(longest_wait=100, sleep=waits.append, say=said.append)
    fetch_file([server.serve("file.bin", file)], tmp_path / "file.bin", policy=policy)
    assert waits[:2] == [7.0, 100.0] and 40 < waits[2] <= 50 and waits[3:] == [8.0, 16.0, 32.0]
    assert said[0].endswith("/file.bin returned 429 Too Many Requests; retrying in 7 s")


def test_gives_up_on_a_closed_port(tmp_path: Path, policy: RetryPolicy, waits: list[float]) -> None:
    with FileServer() as server:
        address = server.serve("file.bin", DATA)
    sentence = refused([address], tmp_path / "file.bin", policy=policy)
    assert "cannot be reached" in sentence and "refused" in sentence and len(waits) == 3


@pytest.mark.parametrize("expected", ["zip", "tar", "json", "parquet", "text", None])
@pytest.mark.parametrize("page", [HTML, b"  \n<html><body>Sign in</body></html>"])
def test_refuses_an_html_page_instead_of_a_file(
    server: FileServer, tmp_path: Path, expected: Any, page: bytes
) -> None:
    address = server.serve("file", Served(DATA, [Answer(200, {}, page)] * 2))
    sentence = refused([address], tmp_path / "file", expected=expected)
    what = f"a {expected} file" if expected else "a file"
    assert f"sent an HTML page instead of {what}" in sentence
    assert left(tmp_path) == [] and len(server.asked) == 1


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        ("json", b'\xef\xbb\xbf {"a": 1}'),
        ("text", b"caption\turl\n"),
        ("parquet", b"PAR1" + bytes(8) + b"PAR1"),
        ("page", HTML),
        (None, bytes(20)),
        ("zip", b"PK\5\6" + bytes(18)),
    ],
)
def test_accepts_the_expected_content(
    server: FileServer, tmp_path: Path, expected: Any, content: bytes
) -> None:
    fetch_file([server.serve("file", content)], tmp_path / "file", expected=expected)
    assert (tmp_path / "file").read_bytes() == content


def test_follows_a_limited_number_of_redirects(server: FileServer, tmp_path: Path) -> None:
    address = server.serve("file.bin", DATA)
    once = server.serve("once", Served(b"", [Answer(302, {"Location": "/file.bin"})]))
    fetched = fetch_file([once], tmp_path / "file.bin")
    assert fetched.address == once != address and fetched.sha256 == DIGEST
    ever = server.serve("ever", Served(b"", [Answer(302, {"Location": "/ever"})] * 50))
    assert "redirected more than 10 times" in refused([ever], tmp_path / "other")
    assert len(server.asked) == 2 + 11


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::"])
def test_refuses_redirects_to_other_schemes(server: FileServer, tmp_path: Path, place: str) -> None:
    address = server.serve("away", Served(b"", [Answer(302, {"Location": place})]))
    assert "leads to an invalid http(s) address" in refused([address], tmp_path / "file.bin")


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://a/b", "a.zip", "http://", "http://["]
)
def test_refuses_addresses_of_other_schemes(tmp_path: Path, address: str) -> None:
    assert "not an http:// or https:// address" in refused([address], tmp_path / "file.bin")


def test_sends_headers_but_credentials_only_to_their_host(
    server: FileServer, tmp_path: Path
) -> None:
    with FileServer() as store:
        place = store.serve("file.bin", DATA)
        address = server.serve("file.bin", Served(b"", [Answer(302, {"Location": place})]))
        fetch_file([address], tmp_path / "file.bin", headers={"Authorization": "Bearer x"})
        assert server.asked[0].headers["Authorization"] == "Bearer x"
        assert "Authorization" not in store.asked[0].headers
        assert store.asked[0].headers["Accept-Encoding"] == "identity"


def test_uses_the_proxy_of_the_environment(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://data.invalid/file.bin"] = Served(DATA)
    fetch_file(["http://data.invalid/file.bin"], tmp_path / "file.bin", sha256=DIGEST)
    assert server.asked[0].path == "http://data.invalid/file.bin"


def test_uses_the_certificates_of_the_environment(
    tmp_path: Path, policy: RetryPolicy, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    target, pem = tmp_path / "file.bin", certificate(tmp_path / "company.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with FileServer() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        address = server.serve("file.bin", DATA).replace("http://", "https://")
        sentence = refused([address], target, policy=policy)
        assert "does not trust (set REQUESTS_CA_BUNDLE" in sentence and waits == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
        assert fetch_file([address], target).sha256 == DIGEST
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
        assert "none.pem" in refused([address], tmp_path / "other", policy=policy)


def certificate(pem: Path) -> Path:
    """A key and a self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    formats = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    pem.write_bytes(key.private_bytes(*formats) + made.public_bytes(Encoding.PEM))
    return pem


def test_reports_a_file_in_place_of_the_folder(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"")
    sentence = refused([server.serve("file.bin", DATA)], tmp_path / "a file" / "file.bin")
    assert "a file/file.bin: cannot be written" in sentence


def test_resumes_after_a_full_disk_and_reports_it_in_one_sentence(
    server: FileServer, tmp_path: Path
) -> None:
    address, target = server.serve("file.bin", DATA), tmp_path / "file.bin"
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000,) * 2); "
    process = child(address, target, before=limited)
    _, error = process.communicate()
    assert process.returncode == 1
    last = error.decode().splitlines()[-1]
    assert last.endswith(f"FsckitError: {target}: cannot be written (File too large)")
    assert not target.exists() and (tmp_path / ".file.bin.tmp").stat().st_size == 200_000
    fetch_file([address], target, sha256=DIGEST)
    assert server.asked[-1].range == "bytes=200000-" and left(tmp_path) == ["file.bin"]


def test_a_second_process_is_refused(server: FileServer, tmp_path: Path) -> None:
    """The first one continues undisturbed."""
    target = tmp_path / "file.bin"
    address = server.serve("file.bin", Served(DATA, pause=0.02))
    first = child(address, target)
    until((tmp_path / ".file.bin.tmp").exists, first)
    assert "another process is using it" in refused([address], target)
    assert first.wait() == 0
    assert target.read_bytes() == DATA
    assert fetch_file([address], target, sha256=DIGEST).address is None


def test_threads_fetch_files_of_one_folder(server: FileServer, tmp_path: Path) -> None:
    """As with a hub."""
    addresses = [server.serve(f"{i}", Served(DATA[i:], [Drop(100_000)])) for i in range(8)]
    policy = RetryPolicy(sleep=lambda seconds: None)
    threads = [
        threading.Thread(
            target=fetch_file, args=([a], tmp_path / str(i)), kwargs={"policy": policy}
        )
        for i, a in enumerate(addresses)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((tmp_path / str(i)).read_bytes() == DATA[i:] for i in range(8))


CHILD = "import sys, pathlib; from fscdata.download.fetch import fetch_file; "
CALL = "fetch_file([sys.argv[1]], pathlib.Path(sys.argv[2]))"


def child(address: str, target: Path, before: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD + before + CALL, address, str(target)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def until(happens: Any, process: subprocess.Popen[bytes]) -> None:
    while not happens():
        assert process.poll() is None, "it ended too early"
        time.sleep(0.002)


@pytest.mark.slow
def test_five_kills_leave_the_same_result(server: FileServer, tmp_path: Path) -> None:
    target, partial = tmp_path / "killed" / "file.bin", tmp_path / "killed" / ".file.bin.tmp"
    address = server.serve("file.bin", Served(DATA, pause=0.01))
    came = 0
    for kill in range(5):
        process = child(address, target)
        goal = (kill + 1) * 45_000
        until(lambda goal=goal: partial.exists() and partial.stat().st_size >= goal, process)
        process.kill()
        process.wait()
        assert not target.exists()
        assert came < partial.stat().st_size < len(DATA)
        came = partial.stat().st_size
    assert child(address, target).wait() == 0

    server.files["/file.bin"].pause = 0
    fetch_file([address], tmp_path / "undisturbed" / "file.bin")
    assert target.read_bytes() == (tmp_path / "undisturbed" / "file.bin").read_bytes() == DATA
    assert left(target.parent) == left(tmp_path / "undisturbed") == ["file.bin"]
    ranges = [asked.range for asked in server.asked[:6]]
    assert ranges[0] is None and None not in ranges[1:]
    starts = [int(str(asked).removeprefix("bytes=").rstrip("-")) for asked in ranges[1:]]
    assert starts == sorted(set(starts)) and starts[-1] == came


def test_the_partial_files_record_matches_its_bytes(
    server: FileServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    address = part(server, tmp_path / "file.bin", Served(DATA), policy)
    record = json.loads((tmp_path / ".file.bin.origin.tmp").read_text())
    tag = server.files["/file.bin"].tag
    assert record == {"address": address, "etag": tag, "total": len(DATA)}
    assert (tmp_path / ".file.bin.tmp").read_bytes() == DATA[:HALF]


def test_gives_up_soon_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    clock = [start]
    monkeypatch.setattr("fscdata.download.fetch.time.monotonic", lambda: clock[0])

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    addresses = ["http://one.invalid/file.bin", "http://two.invalid/file.bin"]
    sentence = refused(addresses, tmp_path / "file.bin", policy=RetryPolicy(sleep=sleep))
    assert clock[0] - start < 10
    assert "cannot be reached" in sentence
    assert "check the network and the proxy (HTTPS_PROXY), then rerun the command" in sentence
