from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
import webdataset as wds

from engine.catalog import discover, scan
from engine.catalog.forward import CHUNK
from engine.recipe import Images
from tests.catalog.sets import catalog_all, entries, picture, read_all, tar_bytes, webdataset


def write(path: Path, data: bytes) -> Images:
    path.write_bytes(data)
    return webdataset(path)


def rows_of(images: Images) -> list[dict[str, object]]:
    (shard,) = discover(images)
    rows: list[dict[str, object]] = scan(shard, images).table.to_pylist()
    return rows


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")])
def test_keys_captions_extra_and_bytes_survive(tmp_path: Path, name: str, mode: str) -> None:
    rows = read_all(write(tmp_path / name, tar_bytes(entries(30), mode)), tmp_path / "catalog")
    assert [row["key"] for row in rows] == [f"{n:05d}" for n in range(30)]
    assert [row["image"] for row in rows] == [picture(n) for n in range(30)]
    assert [row["captions"] for row in rows] == [[f"caption {n}"] for n in range(30)]
    assert [json.loads(row["extra"]) for row in rows] == [{"number": n} for n in range(30)]
    assert len({row["id"] for row in rows}) == 30
    assert all(row["error"] is None for row in rows)


def test_offsets_point_at_the_bytes_in_the_file(tmp_path: Path) -> None:
    data = tar_bytes(entries(5))
    for n, row in enumerate(rows_of(write(tmp_path / "a.tar", data))):
        assert data[row["offset"] : row["offset"] + row["size"]] == picture(n)  # type: ignore[operator, index]


def test_tars_written_by_webdataset(tmp_path: Path) -> None:
    with wds.TarWriter(str(tmp_path / "a.tar")) as writer:
        for n in range(3):
            writer.write(
                {
                    "__key__": f"dir/{n}",
                    "jpg": picture(n),
                    "txt": f"text {n}",
                    "cls": n,
                    "npy": b"\xff\xfe\xfd",
                }
            )
    rows = read_all(webdataset(tmp_path), tmp_path / "catalog")
    assert [row["key"] for row in rows] == ["dir/0", "dir/1", "dir/2"]
    assert [row["captions"] for row in rows] == [["text 0"], ["text 1"], ["text 2"]]
    assert json.loads(rows[2]["extra"]) == {"cls": "2"}
    assert [row["image"] for row in rows] == [picture(n) for n in range(3)]


def test_captions_from_json_only_without_text(tmp_path: Path) -> None:
    members = [
        ("a.jpg", picture(0)),
        ("a.json", b'{"captions": ["one", " two "], "license": 3}'),
        ("b.jpg", picture(1)),
        ("b.txt", b"text"),
        ("b.json", b'{"caption": "other"}'),
        ("c.jpg", picture(2)),
        ("c.json", b"[1, 2"),
    ]
    a, b, c = rows_of(write(tmp_path / "a.tar", tar_bytes(members)))
    assert a["captions"] == ["one", "two"] and a["extra"] == '{"license": 3}'
    assert b["captions"] == ["text"] and b["extra"] == '{"caption": "other"}'
    assert c["captions"] == [] and c["extra"] == '{"json": "[1, 2"}'


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("into", ["image", "text", "header", "padding"])
def test_a_tar_cut_short_keeps_what_is_whole(tmp_path: Path, suffix: str, into: str) -> None:
    data = tar_bytes(entries(3))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        last_image, last_text = tar.getmembers()[6:8]
    end = {
        "image": last_image.offset_data + 1000,
        "text": last_text.offset_data + 3,
        "header": last_text.offset + 100,
        "padding": last_image.offset_data + last_image.size + 3,
    }[into]
    cut = data[:end]
    if suffix == "tar.gz":
        whole = gzip.compress(cut + b"\1" * 5 * CHUNK, 0)
        cut = gzip.compress(cut, 0) if into == "header" else whole[: end + 100]
    images = write(tmp_path / f"a.{suffix}", cut)
    rows = read_all(images, tmp_path / "catalog")
    _, warnings = catalog_all(images, tmp_path / "other")
    assert [row["image"] for row in rows[:2]] == [picture(0), picture(1)]
    assert sum(row["error"] is not None for row in rows) == 1
    assert any(w.startswith(f"a.{suffix}: tar ") for w in warnings), warnings
    if into == "image":
        assert [row["key"] for row in rows] == ["00000", "00001", "00002"]
        assert rows[2]["error"] == "image lost: tar cut short" and rows[2]["offset"] is None
    elif suffix == "tar":
        assert rows[2]["image"] == picture(2), "the image itself is whole"
        assert "lost" in rows[3]["error"] and rows[3]["key"] == "a.tar"


def test_a_tar_without_its_end_mark_loses_nothing(tmp_path: Path) -> None:
    data = tar_bytes(entries(2))
    rows = rows_of(write(tmp_path / "a.tar", data.rstrip(b"\0") + b"\0" * (-len(data.rstrip(b"\0")) % 512)))
    assert [row["error"] for row in rows] == [None, None]


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(entries(4)))
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as tar:
        data[tar.getmembers()[6].offset] ^= 0xFF
    rows = rows_of(write(tmp_path / "a.tar", bytes(data)))
    assert [row["error"] for row in rows[:2]] == [None, None]
    assert rows[2]["key"] == "a.tar" and "header is not valid" in str(rows[2]["error"])


def test_joined_tars_are_noticed(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path / "a.tar", tar_bytes(entries(2)) + tar_bytes(entries(2, 2))))
    assert [row["error"] is None for row in rows] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.tar", b"", "empty (zero bytes)"),
        ("a.tar.gz", b"", "empty (zero bytes)"),
        ("a.tar", b"<html>not found</html>" * 100, "no tar file"),
        ("a.tar", b"short", "no tar file"),
        ("a.tar.gz", b"<html>not found</html>" * 100, "damaged gzip data"),
    ],
)
@pytest.mark.parametrize("digest", ["content", "index"])
def test_what_is_no_tar_is_named_and_counted(
    tmp_path: Path, name: str, data: bytes, reason: str, digest: str
) -> None:
    write(tmp_path / name, data)
    images = webdataset(tmp_path / name, digest=digest)
    rows = read_all(images, tmp_path / "catalog")
    _, warnings = catalog_all(images, tmp_path / "catalog2")
    assert (
        len(rows) == 1 and rows[0]["key"] == name and reason in rows[0]["error"] and rows[0]["image"] is None
    )
    assert len(warnings) == 1 and warnings[0].startswith(f"{name}: tar ") and reason in warnings[0]


def test_duplicate_keys_are_all_kept(tmp_path: Path) -> None:
    members = [("a.jpg", picture(0)), ("a.jpg", picture(1)), ("b.jpg", picture(2)), ("a.jpg", picture(3))]
    images = write(tmp_path / "a.tar", tar_bytes(members))
    rows = read_all(images, tmp_path / "catalog")
    assert [row["image"] for row in rows] == [picture(n) for n in range(4)]
    assert [row["key"] for row in rows] == ["a", "a", "b", "a"]
    assert len({row["id"] for row in rows}) == 4
    _, warnings = catalog_all(images, tmp_path / "catalog2")
    assert "1 keys are used more than once, the first is 'a'" in warnings[0]


def test_ids_do_not_move_when_other_samples_change(tmp_path: Path) -> None:
    before = rows_of(write(tmp_path / "a.tar", tar_bytes(entries(3))))
    after = rows_of(write(tmp_path / "a.tar", tar_bytes(entries(1, 90) + entries(3))))
    assert [row["id"] for row in after[1:]] == [row["id"] for row in before]


def test_samples_without_an_image_and_with_an_empty_one(tmp_path: Path) -> None:
    rows = rows_of(
        write(tmp_path / "a.tar", tar_bytes([("a.txt", b"x"), ("b.jpg", b""), ("c.jpg", picture(0))]))
    )
    assert [row["error"] for row in rows] == ["no image in the sample", "zero bytes", None]
    assert [row["offset"] is None for row in rows] == [True, True, False]


def test_the_plainest_ending_is_the_image(tmp_path: Path) -> None:
    members = [("a.mask.png", b"mask"), ("a.JPG", picture(0)), ("a.webp", picture(1))]
    images = write(tmp_path / "a.tar", tar_bytes(members))
    assert read_all(images, tmp_path / "catalog")[0]["image"] == picture(0)
    assert "more than one image" in catalog_all(images, tmp_path / "catalog2")[1][0]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_unicode_and_hostile_names(tmp_path: Path, format: int) -> None:
    keys = [
        "../../etc/passwd",
        "/absolute/x",
        "日本語/ß",
        "new\nline",
        "x" * 3000,
        "caf\udce9",
        "' OR 1=1 --",
        "\x1b[2J",
    ]
    members = [(f"{key}.jpg", picture(n)) for n, key in enumerate(keys)]
    rows = read_all(write(tmp_path / "a.tar", tar_bytes(members, format=format)), tmp_path / "catalog")
    assert [row["image"] for row in rows] == [picture(n) for n in range(len(keys))]
    assert [row["key"] for row in rows] == [key.replace("\udce9", "?") for key in keys]


def test_links_are_error_rows(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert "link" in str(rows_of(webdataset(tmp_path / "a.tar"))[0]["error"])


def test_a_hostile_gzip_is_not_held_in_memory(tmp_path: Path) -> None:
    import resource

    header = tarfile.TarInfo("a.jpg")
    header.size = 2**30
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header.tobuf()) + gzip.compress(bytes(64 * 2**20)) * 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = rows_of(webdataset(tmp_path / "a.tar.gz"))
    assert "larger than" in str(rows[0]["error"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 2**10


def test_index_digest_reads_headers_and_finds_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", tar_bytes(entries(5)))
    (shard,) = discover(webdataset(tmp_path, digest="index"))
    index = scan(shard, webdataset(tmp_path, digest="index"))
    assert index.table == scan(shard, webdataset(tmp_path)).table


def test_extra_fields_nested_beyond_reason_cost_themselves_only(tmp_path: Path) -> None:
    deep = b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}"
    members = [("0.jpg", picture(0)), ("0.json", deep), ("0.txt", b"a caption"), ("1.jpg", picture(1))]
    images = write(tmp_path / "a.tar", tar_bytes(members))
    (shard,) = discover(images)
    scanned = scan(shard, images)
    rows = scanned.table.to_pylist()
    assert [(row["key"], row["captions"], row["error"]) for row in rows] == [
        ("0", ["a caption"], None),
        ("1", [], None),
    ]
    assert any("nested too deeply" in warning for warning in scanned.warnings)
