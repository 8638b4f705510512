import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fscdata.base.errors import FsckitError
from fscdata.captions import BAD_NEGATIVES, CaptionFile, Columns, read_captions
from fscdata.contract import MAX_CAPTIONS

WANTED = {
    "a.jpg": ["A dog runs.", 'The "fast" dog, running.'],
    "b.v2.jpg": ["كلب يجري 🐕"],
}
ROWS = [(image, caption) for image, captions in WANTED.items() for caption in captions]


def read(path: Path, content: str | bytes) -> CaptionFile:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_captions(path)


def captions(file: CaptionFile) -> dict[str, list[str]]:
    return {image: list(own) for image, own in file.images.items()}


def test_tsv_keeps_quotes(tmp_path: Path) -> None:
    text = "image\tcaption\n" + "".join(f"{i}\t{c}\n" for i, c in ROWS)
    file = read(tmp_path / "c.tsv", text)
    assert captions(file) == WANTED
    assert not file.skipped
    assert captions(read(tmp_path / "c.tsv", 'image\tcaption\na\t"A dog" barks.\n')) == {
        "a": ['"A dog" barks.']
    }


@pytest.mark.parametrize("image", ["image", "filename", "file_name", "filepath", "FILE"])
@pytest.mark.parametrize("caption", ["caption", "captions", "title", "text", "sentence", "Raw"])
def test_csv_accepts_every_header(tmp_path: Path, image: str, caption: str) -> None:
    quoted = [(i, c.replace('"', '""')) for i, c in ROWS]
    text = f"\ufeff{image},id,{caption}\r\n" + "".join(f'{i},1,"{c}"\r\n' for i, c in quoted)
    assert captions(read(tmp_path / "c.csv", text)) == WANTED


def test_jsonl_with_a_caption_or_a_list(tmp_path: Path) -> None:
    lines = [
        {"file_name": "a.jpg", "captions": WANTED["a.jpg"]},
        {"image": "b.v2.jpg", "text": WANTED["b.v2.jpg"][0]},
    ]
    assert captions(read(tmp_path / "c.jsonl", "\n\n".join(map(json.dumps, lines)))) == WANTED


@pytest.mark.parametrize("listed", [True, False])
def test_parquet_is_recognized_by_its_first_bytes(tmp_path: Path, listed: bool) -> None:
    if listed:
        table = pa.table({"filename": list(WANTED), "captions": list(WANTED.values())})
    else:
        table = pa.table({"filename": [i for i, _ in ROWS], "text": [c for _, c in ROWS]})
    pq.write_table(table, tmp_path / "captions.data")
    assert captions(read_captions(tmp_path / "captions.data")) == WANTED


def test_coco_images_keep_the_order_of_the_list(tmp_path: Path) -> None:
    coco = {
        "images": [
            {"id": 7, "file_name": "a.jpg"},
            {"id": 3, "file_name": "b.v2.jpg"},
            {"id": 5, "file_name": "alone.jpg"},
        ],
        "annotations": [
            {"image_id": 3, "caption": WANTED["b.v2.jpg"][0]},
            *({"image_id": 7, "caption": c} for c in WANTED["a.jpg"]),
            {"image_id": 99, "caption": "Of no image."},
            {"image_id": [7], "caption": "Of a list."},
            "not an object",
        ],
    }
    file = read(tmp_path / "c.json", json.dumps(coco))
    assert captions(file) == {**WANTED, "alone.jpg": []}
    assert list(file.images) == ["a.jpg", "b.v2.jpg", "alone.jpg"]
    assert file.skipped == {
        "bad row: an annotation of no image": 2,
        "bad row: not a JSON object": 1,
    }


NEGCLIP = "\ttitle\tfilepath\tneg_caption\tneg_image\n"


def test_negclips_table_has_published_negatives(tmp_path: Path) -> None:
    text = NEGCLIP + (
        "0\tA cat on a mat\tcoco/val2014/X.jpg\t['A mat on a cat']\t[3, 4]\n"
        '1\tA dog\'s ball\tcoco/val2014/Y.jpg\t"[""A ball\'s dog"", \'A \\\\d ball\']"\t[1]\n'
        '2\t"A ""red"" hat"\tcoco/val2014/Z.jpg\t[]\t[1]\n'
    )
    file = read(tmp_path / "train_neg_clip.tsv", text)
    assert file.images == {
        "coco/val2014/X.jpg": {"A cat on a mat": ["A mat on a cat"]},
        "coco/val2014/Y.jpg": {"A dog's ball": ["A ball's dog", "A \\d ball"]},
        "coco/val2014/Z.jpg": {'A "red" hat': []},
    }
    assert not file.skipped


@pytest.mark.parametrize(
    "literal",
    [
        "__import__('os').system('true')",
        "['a'] * 10**9",
        "[" * 20_000,
        "-" * 20_000 + "1",
        "[1" + "+1" * 20_000 + "]",
        "{{}: 1}",
        "['a', 1]",
        "'a string'",
        "['half a pair \\ud800']",
        "['a' 'b'",
        "['" + "a" * 100_000 + "']",
        "",
        "['nul \0']",
    ],
)
def test_a_hostile_literal_is_counted_and_its_caption_kept(tmp_path: Path, literal: str) -> None:
    text = NEGCLIP + f"0\tA cat\tx.jpg\t{literal}\t[]\n1\tA dog\ty.jpg\t['A god']\t[]\n"
    file = read(tmp_path / "c.tsv", text)
    assert file.images == {"x.jpg": {"A cat": []}, "y.jpg": {"A dog": ["A god"]}}
    assert file.skipped == {BAD_NEGATIVES: 1}


def test_bad_rows_are_counted_by_reason_and_the_others_kept(tmp_path: Path) -> None:
    content = (
        b"image,caption\n"
        b"a.jpg,First\n"
        b"a.jpg,   \n"
        b"a.jpg, First \n"
        b",No image\n"
        b"a.jpg\n"
        b"a.jpg,one,two\n"
        b"a.jpg,\xff\xfe\n"
        b"\n"
        b'a.jpg,"quoted" badly\n'
        b"a.jpg,n\0l\n"
        b"a.jpg,...\n"
        b'a.jpg,"never closed\n'
        b"a.jpg,swallowed\n"
    )
    file = read(tmp_path / "c.csv", content)
    assert captions(file) == {"a.jpg": ["First", "n\0l", "..."]}
    assert file.skipped == {
        "empty caption": 1,
        "duplicate row": 1,
        "bad row: no image name": 1,
        "bad row: another number of fields than the header": 2,
        "bad row: not UTF-8": 1,
        "bad row: broken quotes, or a field too long": 3,
    }


def test_bad_json_lines_are_counted(tmp_path: Path) -> None:
    lines = [
        '{"image": "a.jpg", "caption": "Good"}',
        '{"image": "a.jpg", "caption": ',
        "[" * 100_000,
        "[1]",
        '{"id": 1}',
        '{"image": 5, "caption": "x"}',
        '{"image": "a.jpg", "caption": 5}',
        '{"image": "a.jpg", "caption": null}',
        '{"image": "a.jpg", "caption": "\\ud800"}',
        '{"image": "b.jpg", "captions": []}',
    ]
    file = read(tmp_path / "c.jsonl", "\n".join(lines))
    assert captions(file) == {"a.jpg": ["Good"], "b.jpg": []}
    assert file.skipped == {
        "bad row: not a JSON object": 3,
        "bad row: no image or no caption field": 1,
        "bad row: no image name": 1,
        "bad row: the caption is not text": 1,
        "empty caption": 1,
        "bad row: not UTF-8": 1,
    }


def test_excess_captions_of_an_image_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"a.jpg\tCaption {i}\n" for i in range(MAX_CAPTIONS + 3))
    file = read(tmp_path / "c.tsv", "image\tcaption\n" + rows)
    assert len(file.images["a.jpg"]) == MAX_CAPTIONS
    assert file.skipped == {f"more than {MAX_CAPTIONS} captions of one image": 3}


def test_a_caption_may_have_five_hundred_words(tmp_path: Path) -> None:
    caption = " ".join(["word"] * 500)
    assert captions(read(tmp_path / "c.tsv", f"image\tcaption\na\t{caption}\n")) == {"a": [caption]}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.tsv", "", "contains no captions"),
        ("c.csv", "image,caption\n", "contains no captions"),
        ("c.jsonl", "\n", "contains no captions"),
        ("c.json", '{"images": [], "annotations": []}', "contains no captions"),
        ("c.tsv", "picture\tcaption\na\tb\n", "no image column.*'picture', 'caption'.*file_name"),
        ("c.csv", "image;words\na;b\n", "no image column.*'image;words'"),
        ("c.csv", "image,words\na,b\n", "no caption column.*'image', 'words'.*sentence"),
        ("c.csv", "im\x1b[31mage,words\na,b\n", r"no image column.*im\\x1b\[31mage"),
        ("c.jsonl", '{"picture": "a"}', "no image column.*'picture'"),
        ("c.json", '[{"picture": "a"}]', "no image column.*'picture'"),
        ("c.json", "[]", "contains no captions"),
        ("c.json", "not json", "not COCO captions"),
        ("c.parquet", "PAR1 and no more", "damaged, or not Parquet"),
        ("c.parquet", "", "damaged, or not Parquet"),
        (
            "c.txt",
            "a b",
            "unknown caption format; use one of .tsv, .csv, .txt, .jsonl, .json, ",
        ),
    ],
)
def test_an_unusable_file_gives_one_clear_error(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    with pytest.raises(FsckitError, match=words) as caught:
        read(tmp_path / name, content)
    assert str(tmp_path / name) in str(caught.value)


def test_parquet_without_the_columns_is_rejected(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"], "caption": ["y"]}), tmp_path / "c.parquet")
    with pytest.raises(FsckitError, match=r"no image column.*'url', 'caption'"):
        read_captions(tmp_path / "c.parquet")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FsckitError, match=r"c.tsv: cannot be read"):
        read_captions(tmp_path / "c.tsv")


def test_json_may_be_a_list_of_rows(tmp_path: Path) -> None:
    rows = [{"image": "val2014/a.jpg", "caption": ["One.", "Two."]}, "no row", {"image": "b.jpg"}]
    (tmp_path / "c.json").write_text(json.dumps(rows))
    file = read_captions(tmp_path / "c.json")
    assert file.images == {"val2014/a.jpg": {"One.": [], "Two.": []}}
    assert file.skipped == {
        "bad row: not a JSON object": 1,
        "bad row: no image or no caption field": 1,
    }


def test_kaggles_flickr8k_captions(tmp_path: Path) -> None:
    text = 'image,caption\na.jpg,A dog runs .\na.jpg,"A dog , running ."\n'
    assert captions(read(tmp_path / "captions.txt", text)) == {
        "a.jpg": ["A dog runs .", "A dog , running ."]
    }


def test_flickr30ks_results(tmp_path: Path) -> None:
    text = (
        "image_name| comment_number| comment\n"
        '1.jpg| 0| Two men , one in "red" .\n'
        "1.jpg| 1| A man; another, too .\n"
        "2199200615.jpg| 4   A dog runs across the grass .\n"  # as in the published file
    )
    file = read(tmp_path / "results.csv", text)
    assert captions(file) == {"1.jpg": ['Two men , one in "red" .', "A man; another, too ."]}
    assert file.skipped == {"bad row: another number of fields than the header": 1}


def test_sugarcrepes_negatives_are_published_ones(tmp_path: Path) -> None:
    pairs = {
        "0": {"filename": "1.jpg", "caption": "A cat", "negative_caption": "A dog"},
        "1": {"filename": "1.jpg", "caption": "A cat", "negative_caption": "Two cats"},
        "2": "not a pair",
        "3": {"filename": "2.jpg", "caption": "A hat", "negative_caption": None},
    }
    file = read(tmp_path / "swap_att.json", json.dumps(pairs))
    assert file.images == {"1.jpg": {"A cat": ["A dog", "Two cats"]}, "2.jpg": {"A hat": []}}
    assert file.skipped == {"bad row: not a JSON object": 1, BAD_NEGATIVES: 1}


def test_columns_and_separator_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "c.data").write_text("Photo~image~Words\na.jpg~x~A dog\n")
    found = read_captions(tmp_path / "c.data", Columns("photo", "Words", "~"))
    assert captions(found) == {"a.jpg": ["A dog"]}
    with pytest.raises(FsckitError, match=r"expected 'nope'; name it with `image_column`"):
        read_captions(tmp_path / "c.data", Columns("nope", "Words", "~"))
    with pytest.raises(FsckitError, match=r"`sep` '~~': expected one character"):
        read_captions(tmp_path / "c.data", Columns(sep="~~"))
