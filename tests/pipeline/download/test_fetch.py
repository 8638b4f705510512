"""Files over real HTTP on loopback, from a server with the faults of a bad network."""

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
from fscdata.download.fetch import Fetched, fetch
from fscdata.download.patience import Patience
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
    """The seconds that would have been waited."""
    return []


@pytest.fixture
def patience(waits: list[float]) -> Patience:
    return Patience(attempts=4, timeout=0.5, sleep=waits.append)


def left(folder: Path) -> list[str]:
    """What lies in a folder beside the locks."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises(FsckitError) as caught:
        fetch(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def part(server: FileServer, target: Path, file: Served, patience: Patience) -> str:
    """The address of a file of which the first half has come, as after a kill; its log is empty."""
    address = server.serve("file.bin", file)
    file.faults[:0] = [Drop(HALF), *[Answer(503)] * patience.attempts]
    refused([address], target, patience=patience)
    assert not target.exists()
    file.faults.clear()
    server.asked.clear()
    server.sent = 0
    return address


def test_a_whole_file(server: FileServer, tmp_path: Path) -> None:
    came: list[int] = []
    address = server.serve("file.bin", DATA)
    fetched = fetch([address], tmp_path / "deep" / "file.bin", progress=came.append)
    assert (tmp_path / "deep" / "file.bin").read_bytes() == DATA
    tag = server.files["/file.bin"].tag
    assert fetched == Fetched(address, len(DATA), DIGEST, tag)
    assert sum(came) == len(DATA) and len(came) > 1
    assert left(tmp_path / "deep") == ["file.bin"]


def test_an_empty_file(server: FileServer, tmp_path: Path) -> None:
    assert fetch([server.serve("empty", b"")], tmp_path / "empty", size=0).size == 0
    assert (tmp_path / "empty").read_bytes() == b""


def test_a_file_that_is_there_asks_for_nothing(server: FileServer, tmp_path: Path) -> None:
    target, came = tmp_path / "file.bin", []
    target.write_bytes(DATA)
    address = server.serve("file.bin", DATA)
    fetched = fetch([address], target, size=len(DATA), sha256=DIGEST.upper(), progress=came.append)
    assert fetched == Fetched(None, len(DATA), DIGEST, None)
    assert server.asked == [] and came == [len(DATA)]


@pytest.mark.parametrize("there", [DATA[:-1], OTHER])
def test_a_file_that_does_not_fit_is_replaced(
    server: FileServer, tmp_path: Path, there: bytes
) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(there)
    fetch([server.serve("file.bin", DATA)], target, size=len(DATA), sha256=DIGEST)
    assert target.read_bytes() == DATA


def test_a_dropped_connection_is_gone_on_with(
    server: FileServer, tmp_path: Path, patience: Patience, waits: list[float]
) -> None:
    came: list[int] = []
    # Twice as many as there are attempts: each brings something.
    file = Served(DATA, [Drop(30_000)] * 8)
    target = tmp_path / "file.bin"
    fetch([server.serve("file.bin", file)], target, progress=came.append, patience=patience)
    assert target.read_bytes() == DATA
    assert server.sent == len(DATA) == sum(came)
    assert [asked.if_range for asked in server.asked] == [None] + [file.tag] * 8
    assert waits == [1.0] * 8


def test_a_silent_server_is_gone_on_with(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    file = Served(DATA, [Stall(HALF)])
    fetch([server.serve("file.bin", file)], tmp_path / "file.bin", patience=patience)
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert server.asked[1].range == f"bytes={HALF}-"


def test_the_next_process_goes_on(server: FileServer, tmp_path: Path, patience: Patience) -> None:
    target, came = tmp_path / "file.bin", []
    address = part(server, target, Served(DATA), patience)
    fetch([address], target, sha256=DIGEST, progress=came.append)
    assert target.read_bytes() == DATA
    assert server.sent == len(DATA) - HALF
    assert came[0] == HALF and sum(came) == len(DATA)
    assert left(tmp_path) == ["file.bin"]


def test_bytes_that_are_all_there_need_no_request(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA), patience)
    (tmp_path / ".file.bin.tmp").write_bytes(DATA)
    assert fetch([address], target).sha256 == DIGEST
    assert server.asked == [] and left(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("obeys", [True, False])
def test_a_changed_etag_starts_anew(
    server: FileServer, tmp_path: Path, patience: Patience, obeys: bool
) -> None:
    target, came = tmp_path / "file.bin", []
    file = Served(DATA, obeys_if_range=obeys)
    address = part(server, target, file, patience)
    file.faults.append(Change(OTHER))
    fetch([address], target, progress=came.append, patience=patience)
    assert target.read_bytes() == OTHER
    assert sum(came) == len(OTHER) and min(came) < 0


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_strong_etag_it_starts_anew_unless_a_digest_is_known(
    server: FileServer, tmp_path: Path, patience: Patience, etag: str | None
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA, etag=etag), patience)
    assert fetch([address], target).etag is None
    assert server.asked[0].range is None and target.read_bytes() == DATA

    target.unlink()
    address = part(server, target, Served(DATA, etag=etag), patience)
    fetch([address], target, sha256=DIGEST)
    assert server.asked[0].range == f"bytes={HALF}-" and target.read_bytes() == DATA


def test_a_server_without_ranges_starts_anew(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA, ranges=False), patience)
    fetch([address], target)
    assert server.asked[0].range is not None and target.read_bytes() == DATA


def test_a_server_without_ranges_that_always_drops_is_given_up(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    file = Served(DATA, [Drop(HALF)] * 100, ranges=False)
    sentence = refused([server.serve("file.bin", file)], tmp_path / "f", patience=patience)
    assert "4 times in a row" in sentence
    assert len(server.asked) == 1 + 4 - 1  # the first brought something


def test_a_resumed_file_is_hashed_whole(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA), patience)
    (tmp_path / ".file.bin.tmp").write_bytes(OTHER[:HALF])  # a rotten disk
    fetch([address], target, sha256=DIGEST, patience=patience)
    assert target.read_bytes() == DATA
    assert [asked.range for asked in server.asked] == [f"bytes={HALF}-", None]


@pytest.mark.parametrize("kept", ["{", '{"address": 3}', "[]"])
def test_a_part_without_a_proper_record_starts_anew(
    server: FileServer, tmp_path: Path, patience: Patience, kept: str
) -> None:
    target = tmp_path / "file.bin"
    address = part(server, target, Served(DATA), patience)
    (tmp_path / ".file.bin.origin.tmp").write_text(kept)
    fetch([address], target)
    assert target.read_bytes() == DATA and server.asked[0].range is None
    assert left(tmp_path) == ["file.bin"]


def test_a_wrong_digest_is_refused(server: FileServer, tmp_path: Path) -> None:
    address = server.serve("file.bin", OTHER)
    sentence = refused([address], tmp_path / "file.bin", sha256=DIGEST)
    assert DIGEST in sentence and hashlib.sha256(OTHER).hexdigest() in sentence
    assert address in sentence and str(tmp_path / "file.bin") in sentence
    assert left(tmp_path) == [] and len(server.asked) == 1


def test_a_wrong_size_is_refused_before_its_bytes_come(server: FileServer, tmp_path: Path) -> None:
    address = server.serve("file.bin", DATA)
    sentence = refused([address], tmp_path / "file.bin", size=len(DATA) + 1)
    assert "has 300,000 bytes, not 300,001" in sentence
    assert left(tmp_path) == []


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_a_wrong_size_that_is_not_announced_is_refused(
    server: FileServer, tmp_path: Path, patience: Patience, size: int
) -> None:
    address = server.serve("file.bin", Served(DATA, chunked=True))
    refused([address], tmp_path / "file.bin", size=size, patience=patience)
    assert left(tmp_path) == []


def test_a_size_that_is_not_announced(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    file = Served(DATA, [Drop(HALF)], chunked=True)
    fetch([server.serve("file.bin", file)], tmp_path / "file.bin", patience=patience)
    assert (tmp_path / "file.bin").read_bytes() == DATA


@pytest.mark.parametrize("lie", [1, -1])
def test_a_server_that_lies_about_the_length(
    server: FileServer, tmp_path: Path, patience: Patience, lie: int
) -> None:
    """Too long a claim is a file that never ends; too short a one is a file of another size."""
    address = server.serve("file.bin", Served(DATA, length=len(DATA) + lie))
    refused([address], tmp_path / "file.bin", patience=patience, sha256=DIGEST)
    assert not (tmp_path / "file.bin").exists()
    if lie > 0:
        assert len(server.asked) < 4 * patience.attempts


def test_mirrors_are_tried_in_turn(
    server: FileServer, tmp_path: Path, patience: Patience, waits: list[float]
) -> None:
    addresses = [
        f"{server.url}/missing",
        server.serve("other", OTHER),
        server.serve("busy", Served(DATA, [Answer(503)] * 4)),
        server.serve("good", DATA),
        server.serve("never", DATA),
    ]
    fetched = fetch(addresses, tmp_path / "file.bin", sha256=DIGEST, patience=patience)
    assert fetched.address == addresses[3]
    paths = [asked.path for asked in server.asked]
    assert paths == ["/missing", "/other", *["/busy"] * 4, "/good"]
    assert waits == [1.0, 2.0, 4.0]


def test_the_failures_of_all_mirrors_are_named(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    busy = server.serve("busy", Served(DATA, [Answer(503)] * 9))
    sentence = refused([f"{server.url}/no", busy], tmp_path / "file.bin", patience=patience)
    assert f"{server.url}/no answers 404 Not Found" in sentence
    assert f"{busy} answers 503 Service Unavailable, 4 times in a row" in sentence
    assert "run the command again later" in sentence


def test_a_mirror_goes_on_where_the_digest_will_tell(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    """A mirror's ETag is another one; without a digest its bytes are no continuation."""
    target = tmp_path / "file.bin"
    first = part(server, target, Served(DATA), patience)
    mirror = server.serve("mirror.bin", Served(DATA, etag='"of the mirror"'))
    del server.files["/file.bin"]
    fetched = fetch([first, mirror], target, sha256=DIGEST, patience=patience)
    assert fetched.sha256 == DIGEST and server.sent == len(DATA) - HALF

    target.unlink()
    first = part(server, target, Served(DATA), patience)
    del server.files["/file.bin"]
    fetched = fetch([mirror, first], target, patience=patience)
    # The part's own address comes first: there it could have been gone on with.
    assert [asked.path for asked in server.asked] == ["/file.bin", "/mirror.bin"]
    assert fetched.sha256 == DIGEST and server.sent == len(DATA)


def test_a_length_that_no_file_has(server: FileServer, tmp_path: Path, patience: Patience) -> None:
    lie = Answer(200, {"Content-Length": "9" * 5000}, DATA)
    file = Served(DATA, [lie])
    fetched = fetch([server.serve("file.bin", file)], tmp_path / "file.bin", patience=patience)
    assert (fetched.sha256, len(server.asked)) == (DIGEST, 1)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(
    server: FileServer, tmp_path: Path, patience: Patience, waits: list[float], status: int
) -> None:
    address = server.serve("file.bin", Served(DATA, [Answer(status)] * 3))
    fetch([address], tmp_path / "file.bin", patience=patience)
    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_what_lasts_is_not_asked_again(
    server: FileServer, tmp_path: Path, waits: list[float], patience: Patience, status: int
) -> None:
    address = server.serve("file.bin", Served(DATA, [Answer(status)]))
    assert f"answers {status}" in refused([address], tmp_path / "file.bin", patience=patience)
    assert waits == [] and len(server.asked) == 1


def test_retry_after_is_honoured_up_to_a_ceiling(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=50))
    beyond = "Fri, 01 Jan 2027 00:00:00 +99999999999999999"
    asked = ["7", "86400", then, "soon", "0", beyond]
    file = Served(DATA, [Answer(429, {"Retry-After": value}) for value in asked])
    told: list[str] = []
    patience = Patience(longest_wait=100, sleep=waits.append, tell=told.append)
    fetch([server.serve("file.bin", file)], tmp_path / "file.bin", patience=patience)
    assert waits[:2] == [7.0, 100.0] and 40 < waits[2] <= 50 and waits[3:] == [8.0, 16.0, 32.0]
    assert told[0].endswith("/file.bin answers 429 Too Many Requests; goes on in 7 s")


def test_nobody_listens(tmp_path: Path, patience: Patience, waits: list[float]) -> None:
    with FileServer() as server:
        address = server.serve("file.bin", DATA)
    sentence = refused([address], tmp_path / "file.bin", patience=patience)
    assert "cannot be reached" in sentence and "refused" in sentence and len(waits) == 3


@pytest.mark.parametrize("expected", ["zip", "tar", "json", "parquet", "text", None])
@pytest.mark.parametrize("page", [HTML, b"  \n<html><body>Sign in</body></html>"])
def test_a_page_in_place_of_a_file_is_refused(
    server: FileServer, tmp_path: Path, expected: Any, page: bytes
) -> None:
    address = server.serve("file", Served(DATA, [Answer(200, {}, page)] * 2))
    sentence = refused([address], tmp_path / "file", expected=expected)
    what = f"a {expected} file" if expected else "a file"
    assert f"sends a page of HTML in place of {what}" in sentence
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
def test_what_is_expected_is_taken(
    server: FileServer, tmp_path: Path, expected: Any, content: bytes
) -> None:
    fetch([server.serve("file", content)], tmp_path / "file", expected=expected)
    assert (tmp_path / "file").read_bytes() == content


def test_redirections_are_followed_but_not_for_ever(server: FileServer, tmp_path: Path) -> None:
    address = server.serve("file.bin", DATA)
    once = server.serve("once", Served(b"", [Answer(302, {"Location": "/file.bin"})]))
    fetched = fetch([once], tmp_path / "file.bin")
    assert fetched.address == once != address and fetched.sha256 == DIGEST
    ever = server.serve("ever", Served(b"", [Answer(302, {"Location": "/ever"})] * 50))
    assert "redirects more than 10 times" in refused([ever], tmp_path / "other")
    assert len(server.asked) == 2 + 11


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::"])
def test_redirections_elsewhere_are_refused(server: FileServer, tmp_path: Path, place: str) -> None:
    address = server.serve("away", Served(b"", [Answer(302, {"Location": place})]))
    assert "leads to no http(s) address" in refused([address], tmp_path / "file.bin")


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://a/b", "a.zip", "http://", "http://["]
)
def test_other_addresses_are_refused(tmp_path: Path, address: str) -> None:
    assert "not an http:// or https:// address" in refused([address], tmp_path / "file.bin")


def test_headers_are_sent_and_credentials_stay_with_their_host(
    server: FileServer, tmp_path: Path
) -> None:
    with FileServer() as store:
        place = store.serve("file.bin", DATA)
        address = server.serve("file.bin", Served(b"", [Answer(302, {"Location": place})]))
        fetch([address], tmp_path / "file.bin", headers={"Authorization": "Bearer x"})
        assert server.asked[0].headers["Authorization"] == "Bearer x"
        assert "Authorization" not in store.asked[0].headers
        assert store.asked[0].headers["Accept-Encoding"] == "identity"


def test_the_users_proxy_is_honoured(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://data.invalid/file.bin"] = Served(DATA)
    fetch(["http://data.invalid/file.bin"], tmp_path / "file.bin", sha256=DIGEST)
    assert server.asked[0].path == "http://data.invalid/file.bin"


def test_the_users_certificates_are_honoured(
    tmp_path: Path, patience: Patience, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    target, pem = tmp_path / "file.bin", certificate(tmp_path / "of a company.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with FileServer() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        address = server.serve("file.bin", DATA).replace("http://", "https://")
        sentence = refused([address], target, patience=patience)
        assert "does not trust (REQUESTS_CA_BUNDLE names" in sentence and waits == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
        assert fetch([address], target).sha256 == DIGEST
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
        assert "none.pem" in refused([address], tmp_path / "other", patience=patience)


def certificate(pem: Path) -> Path:
    """A key and a certificate of 127.0.0.1 that it signs itself."""
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


def test_a_folder_that_cannot_be_one(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"")
    sentence = refused([server.serve("file.bin", DATA)], tmp_path / "a file" / "file.bin")
    assert "a file/file.bin: cannot be written" in sentence


def test_a_disk_that_takes_no_more_is_one_sentence_and_can_be_gone_on_from(
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
    fetch([address], target, sha256=DIGEST)
    assert server.asked[-1].range == "bytes=200000-" and left(tmp_path) == ["file.bin"]


def test_two_at_once(server: FileServer, tmp_path: Path) -> None:
    """The second says so; the first is not disturbed."""
    target = tmp_path / "file.bin"
    address = server.serve("file.bin", Served(DATA, pause=0.02))
    first = child(address, target)
    until((tmp_path / ".file.bin.tmp").exists, first)
    assert "another process is using it" in refused([address], target)
    assert first.wait() == 0
    assert target.read_bytes() == DATA
    assert fetch([address], target, sha256=DIGEST).address is None


def test_many_threads_at_once(server: FileServer, tmp_path: Path) -> None:
    """Different files of one folder, as the hub's are."""
    addresses = [server.serve(f"{i}", Served(DATA[i:], [Drop(100_000)])) for i in range(8)]
    patience = Patience(sleep=lambda seconds: None)
    threads = [
        threading.Thread(target=fetch, args=([a], tmp_path / str(i)), kwargs={"patience": patience})
        for i, a in enumerate(addresses)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((tmp_path / str(i)).read_bytes() == DATA[i:] for i in range(8))


CHILD = "import sys, pathlib; from fscdata.download.fetch import fetch; "
CALL = "fetch([sys.argv[1]], pathlib.Path(sys.argv[2]))"


def child(address: str, target: Path, before: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD + before + CALL, address, str(target)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def until(happens: Any, process: subprocess.Popen[bytes]) -> None:
    while not happens():
        assert process.poll() is None, "it ended before"
        time.sleep(0.002)


def test_killed_five_times_the_result_is_the_undisturbed_one(
    server: FileServer, tmp_path: Path
) -> None:
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
    fetch([address], tmp_path / "undisturbed" / "file.bin")
    assert target.read_bytes() == (tmp_path / "undisturbed" / "file.bin").read_bytes() == DATA
    assert left(target.parent) == left(tmp_path / "undisturbed") == ["file.bin"]
    ranges = [asked.range for asked in server.asked[:6]]
    assert ranges[0] is None and None not in ranges[1:]
    starts = [int(str(asked).removeprefix("bytes=").rstrip("-")) for asked in ranges[1:]]
    assert starts == sorted(set(starts)) and starts[-1] == came


def test_the_record_is_of_the_bytes_that_are_there(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    address = part(server, tmp_path / "file.bin", Served(DATA), patience)
    record = json.loads((tmp_path / ".file.bin.origin.tmp").read_text())
    tag = server.files["/file.bin"].tag
    assert record == {"address": address, "etag": tag, "total": len(DATA)}
    assert (tmp_path / ".file.bin.tmp").read_bytes() == DATA[:HALF]
