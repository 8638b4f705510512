from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from fscdata.base.errors import FsckitError
from fscdata.download.fields import Licence, RemoteFile
from fscdata.download.kind import Manifest
from fscdata.download.kinds.huggingface import CaptionArchive
from fscdata.download.manifest import find_kind, kind_names, load_manifest, shipped_manifests
from fscdata.download.packs import Pack
from fscdata.download.record import Source

GOOD = """\
title: Small
kind: archive
archives:
  - name: images.zip
    addresses: [https://example.org/images.zip, http://mirror.example.org/p.zip]
    size: 10
    sha256: {digest}
caption_files:
  - name: captions.tsv
    addresses: [https://example.org/captions.tsv]
    about: 5
packs:
  - captions: captions.tsv
captions: the column caption
licence:
  name: MIT
  link: https://example.org/licence
  terms: Keep the notice.
citation: Nobody, 2024
on_disk: shards
command: fscdata make-negatives {{folder}} --recipe svlc
""".format(digest="a" * 64)


def manifest(folder: Path, *changes: tuple[str, str]) -> Path:
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "small.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", shipped_manifests())
def test_every_shipped_manifest_is_valid(name: str) -> None:
    loaded = load_manifest(name)
    text = shipped_manifests()[name].read_text()
    assert text.startswith(f"# fscdata download {name} DATA/{name}\n")
    assert set(yaml.safe_load(text)) <= set(type(loaded).model_fields)
    if loaded.command:
        assert loaded.command.startswith("fscdata make-negatives {folder} ")


def test_ships_the_data_sets_of_the_recipes() -> None:
    assert {"coco", "cc3m-100k", "laion-coco-100k", "cc3m", "sugarcrepe"} <= set(
        shipped_manifests()
    )


def test_sums_published_and_rounded_sizes(tmp_path: Path) -> None:
    loaded = load_manifest(str(manifest(tmp_path)))
    assert [(file.name, file.expected_size) for file in loaded.remote_files()] == [
        ("captions.tsv", 5),
        ("images.zip", 10),
    ]
    assert loaded.expected_bytes == 15
    with pytest.raises(ValidationError, match="frozen"):
        loaded.title = "Another"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title: Small\n", "", r"line 1: title: is missing; add it"),
        ("title: Small\n", "title: [a]\n", r"line 1: title: is not text"),
        ("kind: archive\n", "", "line 1: kind: is missing; choose archive, files"),
        (
            "kind: archive\n",
            "kind: torrent\n",
            "line 2: unknown kind 'torrent'; choose archive, files",
        ),
        (
            "    size: 10\n",
            "    size: ten\n",
            r"line 6: archives\.0\.size: input should be",
        ),
        ("    size: 10\n", "    size: -1\n", r"line 6: archives\.0\.size: .*greater than or equal"),
        ("a" * 64, "0" * 64, r"line 7: archives\.0\.sha256: is not text; put it in quotes"),
        ("a" * 64, "12ab", r"line 7: archives\.0\.sha256: .*match pattern"),
        ("https://example.org/captions.tsv", "file:///etc/passwd", r"line 10: .*not an http:// or"),
        ("https://example.org/captions.tsv", "'https://'", r"addresses\.0: .*not an http:// or"),
        ("[https://example.org/captions.tsv]", "[]", r"line 10: caption_files\.0\.addresses: "),
        ("  - captions: captions.tsv", "  - captions: ../x.tsv", r"line 13: packs\.0\.captions: "),
        (
            "name: images.zip",
            "name: /etc/passwd",
            r"line 4: .*leaves the data set's folder",
        ),
        ("name: images.zip", "name: SOURCE.json", "line 4: .*the download's own record"),
        ("name: images.zip", "name: .fscdata.lock", "line 4: .*starts with a dot"),
        ("name: images.zip", "name: .downloading/p.zip", "line 4: .*starts with a dot"),
        ("name: images.zip", "name: .", r"line 4: archives\.0\.name: '\.' does not name a file"),
        ("name: images.zip", 'name: "\\uD800"', "line 4: unpaired surrogate"),
        ("title: Small\n", 'title: "\\uDFFF"\n', "line 1: unpaired surrogate"),
        ("name: images.zip", "name: ./captions.tsv", "line 8: .*'captions.tsv' occurs twice"),
        (
            "packs:\n",
            "packs:\n  - {captions: b.tsv, folder: ./}\n",
            r"line 13: packs\.0\.folder: the name is empty",
        ),
        (
            "packs:\n",
            "packs:\n  - {captions: b.tsv, folder: .}\n",
            r"line 12: packs: '\.' occurs twice; keep one",
        ),
        (
            "packs:\n",
            "packs:\n  - {captions: b.tsv, folder: a}\n  - {captions: c.tsv, folder: a/.}\n",
            "line 12: packs: 'a' occurs twice; keep one",
        ),
        (
            "packs:\n",
            "packs:\n  - {captions: b.tsv, folder: shards/a}\n",
            "line 12: packs: 'shards/a' is inside a pack's shards",
        ),
        ("  terms: Keep the notice.\n", "", r"line 15: licence\.terms: is missing"),
        (
            "citation: Nobody, 2024\n",
            "citatoin: x\n",
            r"line 1: citation: is missing.*and 1 more",
        ),
        (
            "on_disk: shards\n",
            "on_disk: shards\nmd5: x\n",
            "line 21: md5: unknown field; remove it",
        ),
        ("on_disk: shards\n", "on_disk: shards\ntitle: B\n", "line 21: 'title' occurs twice"),
        (
            "title: Small\n",
            "title: &a Small\nnote: *a\n",
            "line 2: aliases are not allowed; write the value out",
        ),
        ("title: Small\n", "title: 'Small\n", "line [0-9]+: not YAML"),
        ("title: Small\n", "title: 2024-13-45\n", "small.yaml: not a manifest"),
        (
            "title: Small\n",
            "title: !!python/name:os.system\n",
            "line 1: tags are not allowed; remove the tag",
        ),
        (
            "title: Small\n",
            "title: !!bool x\n",
            "line 1: tags are not allowed; remove the tag",
        ),
    ],
)
def test_a_mistake_names_file_line_and_field(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    path = manifest(tmp_path, (old, new))
    with pytest.raises(FsckitError, match=words) as caught:
        load_manifest(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "a manifest is a mapping"),
        (b"- a\n", "line 1: a manifest is a mapping"),
        (b"title: \xff\n", "not UTF-8"),
        (b"a: " + b"[" * 100_000, "line 1: nested too deeply"),
        (b"#" * (2**20 + 1), "too large for a manifest"),
    ],
)
def test_refuses_what_is_not_a_manifest(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(FsckitError, match=words):
        load_manifest(str(path))


def test_reports_an_unknown_name_or_path(tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match=r"unknown data set .coc.; choose .*coco, "):
        load_manifest("coc")
    with pytest.raises(FsckitError, match=r"none\.yaml: cannot be read"):
        load_manifest(str(tmp_path / "none.yaml"))


LOCAL = """\
title: By hand
kind: local
images: {images}
instructions: put them there
packs:
  - captions: a.json
  - captions: b.json
    folder: valid
captions: in the json
licence: {{name: MIT, link: "https://example.org/licence", terms: Keep the notice.}}
citation: Nobody, 2024
on_disk: shards
"""


@pytest.mark.parametrize("images", ["shards", "./shards/", "shards/deep", "valid/shards/a"])
def test_refuses_images_where_shards_are_written(tmp_path: Path, images: str) -> None:
    path = tmp_path / "local.yaml"
    path.write_text(LOCAL.format(images=images))
    with pytest.raises(FsckitError, match=r"line 3: images: '.*' is where shards are written"):
        load_manifest(str(path))
    path.write_text(LOCAL.format(images="shards-of-old"))
    load_manifest(str(path))


def of_kind(path: Path, kind: str, more: str) -> Manifest:
    """A manifest of another kind, with the terms of GOOD."""
    head, tail = GOOD.split("archives:\n")[0], GOOD[GOOD.index("captions: the column") :]
    path.write_text(head.replace("archive", kind) + more + tail)
    return load_manifest(str(path))


def files_of(path: Path, name: str, address: str, more: str = "") -> Manifest:
    rows = f"  - name: '{name}'\n    addresses: ['{address}']\n{more}"
    return of_kind(path, "files", f"files:\n{rows}")


def test_braces_stand_for_many_files(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    many = files_of(path, "{00..02}.json", "https://example.org/{a,b,c}/x", "    about: 7\n")
    assert [(file.name, file.addresses, file.about) for file in many.remote_files()] == [
        (f"0{i}.json", [f"https://example.org/{letter}/x"], 7) for i, letter in enumerate("abc")
    ]
    one = files_of(path, "a.json", "https://example.org/{a,b}.json")
    assert one.remote_files()[0].addresses == ["https://example.org/{a,b}.json"]
    for name, address, more, words in [
        ("{0..2}.json", "https://a.org/{0..3}", "", "expands to 3 files; each address must"),
        ("{0..2}.json", "https://a.org/0", "", "expands to 3 files; each address must"),
        (
            "{0..2}.json",
            "https://a.org/{0..2}",
            "    size: 3\n",
            "expands to many files; remove its size",
        ),
        ("{0..2.json", "https://a.org/0", "", "a brace is not closed"),
        ("{a,a}.json", "https://a.org/{0,1}", "", "'a.json' occurs twice"),
        ("{/etc/a,b}.json", "https://a.org/{0,1}", "", "leaves the data set's folder"),
        ("{.,b}{.,c}/x", "https://a.org/{0..3}", "", "leaves the data set's folder"),
        ("{.,b}./x.json", "https://a.org/{0,1}", "", "leaves the data set's folder"),
        ("{SOURCE,b}.json", "https://a.org/{0,1}", "", "is the download's own record"),
        ("{.fscdata,b}.lock", "https://a.org/{0,1}", "", "starts with a dot"),
        ("{a,b}.json", "https://{a.org,}/x", "", "not an http:// or https:// address"),
        ("{0..999999999}.json", "https://a.org/0", "", "expands to more than 100,000 files"),
        ("{0..999}{0..999}.json", "https://a.org/0", "", "expands to more than 100,000 files"),
    ]:
        with pytest.raises(FsckitError, match=f"line 3: files: .*{words}"):
            files_of(path, name, address, more)


def test_a_table_is_either_fetched_or_local(tmp_path: Path) -> None:
    path, columns = tmp_path / "urls.yaml", "url_column: url\ncaption_column: text\n"
    file = "table_files: [{name: a.tsv, addresses: [https://example.org/a.tsv]}]\n"
    assert of_kind(path, "urls", file + columns).remote_files()[0].name == "a.tsv"
    assert of_kind(path, "urls", "table: my/tables\n" + columns).remote_files() == []
    for table, words in [
        ("", r"table: set either table_files \(to fetch\) or table \(a path in"),
        (file + "table: a.tsv\n", "line 4: table: set either table_files"),
        ("table: /etc/passwd\n", "line 3: table: .*leaves the"),
        ("table: shards/a.tsv\n", "line 3: table: .*is in a folder that the download creates"),
        ("table: .\n", "line 3: table: '.' does not name a file"),
        ("table: {name: a.tsv}\n", "line 3: table: is not text; write one value"),
        (file.replace("a.tsv,", "a.tsv.gz,"), "line 3: table_files: 'a.tsv.gz' is not a table"),
    ]:
        with pytest.raises(FsckitError, match=words):
            of_kind(path, "urls", table + columns)


@pytest.mark.parametrize("folder", ["shards", "sources/a", "./urls"])
def test_refuses_repository_captions_where_shards_are_written(tmp_path: Path, folder: str) -> None:
    archive = f"caption_archive: {{file: a.tar, folder: {folder}}}\n"
    with pytest.raises(FsckitError, match=r"line 4: caption_archive\.folder: .*rename it"):
        of_kind(tmp_path / "hub.yaml", "huggingface", "repository: a/b\n" + archive)


def test_mirrors_and_prose_do_not_identify_a_data_set(tmp_path: Path) -> None:
    source = Source.start(load_manifest(str(manifest(tmp_path))))
    same = manifest(
        tmp_path,
        ("[https://example.org/captions.tsv]", "[https://a.example.org/c.tsv, http://b.org/c]"),
        ("    about: 5\n", ""),
        ("citation: Nobody, 2024\n", "citation: Somebody\nnote: New.\n"),
        ("  - captions: captions.tsv", "  - captions: captions.tsv\n    folder: ."),
    )
    assert source.is_of(load_manifest(str(same)))
    for change in [
        ("    size: 10\n", "    size: 11\n"),
        ("a" * 64, "b" * 64),
        ("name: images.zip", "name: other.zip"),
        ("  - captions: captions.tsv", "  - captions: captions.tsv\n    folder: valid"),
    ]:
        assert not source.is_of(load_manifest(str(manifest(tmp_path, change))))


def test_files_of_a_repository_identify_a_data_set(tmp_path: Path) -> None:
    def hub(files: str) -> Manifest:
        return of_kind(tmp_path / "hub.yaml", "huggingface", f"repository: a/b\nfiles: {files}\n")

    source = Source.start(hub("[a.json]"))
    assert source.is_of(hub("[./a.json]\nabout: 7"))
    assert not source.is_of(hub("[b.json]"))


def readme() -> str:
    return (Path(__file__).parents[3] / "data_manifests" / "README.md").read_text()


def test_the_readme_names_every_field() -> None:
    for model in (*map(find_kind, kind_names()), RemoteFile, Pack, CaptionArchive, Licence):
        for field in model.model_fields:
            assert f"`{field}`" in readme(), (model, field)


def test_the_readmes_example_is_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(readme().split("```yaml\n")[1].split("```")[0])
    assert load_manifest(str(path)).kind == "urls"
