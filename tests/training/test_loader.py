from __future__ import annotations

import io
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engine.errors import StorageError
from engine.recipe.finetune import Finetune
from engine.storage import locate
from engine.training.loader import AHEAD, Loader
from engine.training.order import epoch_batches
from engine.training.pairs import Pairs
from engine.training.pictures import Decoder
from engine.training.reader import ImageReader
from engine.training.step import LocalBatch
from engine.training.world import World
from tests.catalog.sets import catalog_all, tar_bytes, webdataset
from tests.training import tiny

IMAGES, CAPTIONS = 40, 3
SIDE = 4


def png(number: int, size: tuple[int, int] = (9, 6)) -> bytes:
    """A picture whose only colour is its number."""
    sink = io.BytesIO()
    Image.new("RGB", size, (number, number // 2, 200)).save(sink, "PNG")
    return sink.getvalue()


class Backbone:
    """Prepares a picture to its colour, and reads the number that a caption ends with."""

    side = SIDE

    def __init__(self) -> None:
        self.prepared = Counter[int]()

    def prepare(self, image: Image.Image) -> Tensor:
        pixels = np.asarray(image.resize((SIDE, SIDE)), np.float32).transpose(2, 0, 1)
        self.prepared[int(pixels[0, 0, 0])] += 1
        return torch.from_numpy(pixels.copy())

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        assert texts, "tokenisers need not take no text"
        return torch.tensor([[int((text.split() or ["0"])[-1]), len(text)] for text in texts])


class Reader:
    """Images by number; `broken` are other bytes, or the reason why there are none."""

    def __init__(self, broken: dict[int, bytes | str] | None = None) -> None:
        self.broken, self.reads = broken or {}, list[list[int]]()

    def read(self, rows: NDArray[np.int64]) -> list[bytes | str]:
        self.reads.append(rows.tolist())
        return [self.broken.get(row, png(row)) for row in rows.tolist()]


def pairs(images: int = IMAGES, held_out: Sequence[int] = ()) -> Pairs:
    image = np.repeat(np.arange(images, dtype=np.int32), CAPTIONS)
    level = np.tile(np.array([-1, 0, 4], np.int8), images)
    captions = pa.array([f"caption {n}" for n in range(len(image))], pa.large_string())
    table = pa.table({"id": [f"id{n}" for n in range(images)]})
    held = np.zeros(images, np.bool_)
    held[list(held_out)] = True
    return Pairs(image, level, np.arange(len(image), dtype=np.float32), captions, table, held)


def settings(**more: Any) -> Finetune:
    return Finetune.model_validate({"model": "open_clip:ViT-B-32/x", "batch": 8, "decode_threads": 3, **more})


def loader(
    reader: Any = None,
    world: World | None = None,
    of: Pairs | None = None,
    tell: Callable[[str, str], None] = lambda id, reason: None,
    backbone: Any = None,
    **more: Any,
) -> Loader:
    given = (of or pairs(), reader or Reader(), backbone or Backbone(), settings(**more))
    return Loader(*given, world or World(), 7, tell)


def equal(one: LocalBatch, other: LocalBatch) -> bool:
    tensors = ("pixels", "tokens", "good")
    targets = ("owners", "levels", "weights")
    return (
        all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)
        and all(torch.equal(getattr(one.targets, name), getattr(other.targets, name)) for name in targets)
        and (one.rows, one.weight, one.ids) == (other.rows, other.weight, other.ids)
        and one.targets.seed == other.targets.seed
    )


def running() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(("read", "decode"))]


def test_a_batch_that_was_trained_on_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of batches of 32,768 images a third one would be 20 GB more."""
    one, begin, alive, room = loader(order="shuffled"), Decoder.begin, list[Any](), list[int]()

    def counting(self: Decoder, rows: NDArray[np.int64]) -> Any:
        # The thread that has decoded a batch may hold it for a moment after it was handed on.
        until(lambda: sum(each() is not None for each in alive) <= 1)
        room.append(sum(each() is not None for each in alive))
        pictures = begin(self, rows)
        alive.append(weakref.ref(pictures.pixels))
        return pictures

    monkeypatch.setattr(Decoder, "begin", counting)
    monkeypatch.setattr("engine.training.loader.AHEAD", 1)
    for batch in one.batches(0):
        assert batch.pixels.any()
        del batch
    assert len(room) == one.batches_of(0) > 5
    assert room == [0, *[1] * (len(room) - 1)]


def test_a_batch_is_what_the_order_says() -> None:
    data = pairs(held_out=(3, 17))
    one = loader(of=data)
    training = data.training()
    order = epoch_batches(data.image[training], data.level[training], "shuffled", 8, (0.6, 0.4), 7, 1)
    batches = list(one.batches(1))
    assert len(batches) == len(order) == one.batches_of(1) == -(-len(training) // 8)
    for batch, (rows, weight) in zip(batches, order, strict=True):
        captions = training[rows]
        image = data.image[captions]
        assert batch.tokens[:, 0].tolist() == captions.tolist()
        assert batch.pixels.shape == (len(captions), 3, SIDE, SIDE) and batch.pixels.dtype == torch.float32
        assert batch.pixels[:, 0, 0, 0].tolist() == image.tolist()
        assert batch.good.all() and batch.good.dtype == torch.bool
        assert batch.targets.owners.tolist() == image.tolist()
        assert batch.targets.levels.tolist() == data.level[captions].tolist()
        assert batch.targets.weights.tolist() == captions.tolist()
        assert (batch.targets.owners.dtype, batch.targets.levels.dtype) == (torch.int64, torch.int64)
        assert batch.ids == tuple(f"id{n}" for n in image)
        assert batch.rows == slice(0, len(captions)) and batch.weight == weight
    seeds = [batch.targets.seed for batch in batches]
    assert len(set(seeds)) == len(seeds)
    assert not set(seeds) & {batch.targets.seed for batch in one.batches(0)}
    assert not running()


@pytest.mark.parametrize("size", [2, 3, 11])
def test_the_batches_of_several_workers_join_to_one_workers(size: int) -> None:
    whole = list(loader().batches(0))
    parts = [list(loader(world=World(rank, size)).batches(0)) for rank in range(size)]
    for index, batch in enumerate(whole):
        mine = [each[index] for each in parts]
        for name in ("pixels", "tokens", "good"):
            joined = torch.cat([getattr(each, name) for each in mine])
            assert torch.equal(joined, getattr(batch, name)) and joined.dtype == getattr(batch, name).dtype
        assert [each.rows.start for each in mine][1:] == [each.rows.stop for each in mine][:-1]
        for each in mine:
            assert torch.equal(each.targets.owners, batch.targets.owners)
            assert (each.targets.seed, each.ids) == (batch.targets.seed, batch.ids)


def test_a_worker_reads_its_own_images_only() -> None:
    readers = [Reader(), Reader()]
    for rank, reader in enumerate(readers):
        list(loader(reader, World(rank, 2)).batches(0))
    counts = [sum(len(some) for some in reader.reads) for reader in readers]
    assert sum(counts) == IMAGES * CAPTIONS and abs(counts[0] - counts[1]) <= 15


@pytest.mark.parametrize("order", ["shuffled", "balanced", "interleaved"])
def test_beginning_in_the_middle_of_an_epoch_is_skipping(order: str) -> None:
    data = pairs()
    level = np.tile(np.array([0, 1, 4], np.int8), IMAGES)
    data = Pairs(data.image, level, data.weight, data.captions, data.images, data.held_out)
    whole = list(loader(of=data, order=order).batches(2))
    for start in (0, 1, len(whole) - 1, len(whole)):
        found = list(loader(of=data, order=order).batches(2, start))
        assert len(found) == len(whole) - start
        assert all(equal(one, other) for one, other in zip(found, whole[start:], strict=True))
    if order == "interleaved":
        assert [batch.weight for batch in whole[:4]] == [0.6, 0.4, 0.6, 0.4]


@pytest.mark.parametrize("threads", [1, 8])
def test_threads_change_nothing(threads: int) -> None:
    found = list(loader(decode_threads=threads).batches(0))
    assert all(equal(one, other) for one, other in zip(found, loader().batches(0), strict=True))


def test_an_image_with_several_captions_in_a_batch_is_decoded_once() -> None:
    backbone, reader = Backbone(), Reader()
    data = pairs()
    level = np.tile(np.array([0, 1, 4], np.int8), IMAGES)
    data = Pairs(data.image, level, data.weight, data.captions, data.images, data.held_out)
    batches = list(loader(reader, of=data, backbone=backbone, order="balanced", batch=12).batches(0))
    assert all(len(batch.tokens) == 12 and len(set(batch.ids)) == 4 for batch in batches)
    assert all(batch.pixels[:, 0, 0, 0].tolist() == batch.targets.owners.tolist() for batch in batches)
    assert sorted(row for some in reader.reads for row in some) == list(range(IMAGES))
    # Once more, a black picture is prepared to see the size.
    assert backbone.prepared == Counter(range(IMAGES)) + Counter([0])


def test_images_that_cannot_be_used_are_zeros_and_told_once() -> None:
    broken: dict[int, bytes | str] = {
        1: "image file is missing",
        5: png(5)[:-30],
        6: b"",
        9: b"no image at all",
        11: png(11, (2, 2000)),
        12: png(12, (4000, 4000)),
    }
    told = list[tuple[str, str]]()
    given = (pairs(), Reader(broken), Backbone(), settings(), World(), 7, lambda *what: told.append(what))
    one = Loader(*given, max_pixels=10**6)
    for number in range(2):
        for batch in one.batches(number):
            bad = torch.tensor([int(owner) in broken for owner in batch.targets.owners])
            assert torch.equal(batch.good, ~bad)
            assert not batch.pixels[bad].any()
            assert batch.pixels[~bad, 0, 0, 0].tolist() == batch.targets.owners[~bad].tolist()
    assert sorted(told) == [
        ("id1", "image file is missing"),
        ("id11", "more than 64 times as long as wide"),
        ("id12", "more than 1000000 pixels (images.max_pixels)"),
        ("id5", "truncated image"),
        ("id6", "zero bytes"),
        ("id9", "not an image"),
    ]


class Failing(Reader):
    """The store fails at the third read."""

    def read(self, rows: NDArray[np.int64]) -> list[bytes | str]:
        if len(self.reads) == 2:
            raise StorageError("a.tar: shard a.tar is gone")
        return super().read(rows)


def test_a_store_that_fails_stops_the_batches_in_their_order() -> None:
    found = loader(Failing()).batches(0)
    next(found), next(found)
    with pytest.raises(StorageError, match="is gone"):
        next(found)
    assert not running() and list(found) == []


class Gated(Reader):
    """Reads as many times as it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)

    def read(self, rows: NDArray[np.int64]) -> list[bytes | str]:
        self.gate.acquire()
        return super().read(rows)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize(("limit", "ahead"), [(2**33, AHEAD), (1, 1)])
def test_so_many_batches_are_begun_ahead_and_no_more(
    monkeypatch: pytest.MonkeyPatch, limit: int, ahead: int
) -> None:
    monkeypatch.setattr("engine.training.loader.AHEAD_BYTES", limit)
    reader = Reader()
    found = loader(reader).batches(0)
    assert not reader.reads and not running(), "nothing begins before it is asked for"
    next(found)
    until(lambda: len(reader.reads) == 1 + ahead)
    time.sleep(0.05)
    assert len(reader.reads) == 1 + ahead
    next(found)
    until(lambda: len(reader.reads) == 2 + ahead)
    found.close()  # type: ignore[attr-defined]
    assert not running()


def test_closing_early_leaves_no_threads() -> None:
    reader = Gated()
    reader.gate.release()
    found = loader(reader).batches(0)
    next(found)
    # The second read hangs, and decoding waits for it, when the iterator is closed.
    threading.Timer(0.1, reader.gate.release, (20,)).start()
    found.close()  # type: ignore[attr-defined]
    assert not running()
    assert len(reader.reads) <= 2, "what has not begun is left"

    for _ in loader().batches(0):
        break
    assert not running(), "an iterator that nobody holds is closed"


def test_the_seconds_of_waiting() -> None:
    one, begun = loader(), time.monotonic()
    for _ in one.batches(0):
        time.sleep(0.05)
    assert one.waited() < 0.5 * (time.monotonic() - begun)
    assert one.waited() == 0

    class Slow(Reader):
        def read(self, rows: NDArray[np.int64]) -> list[bytes | str]:
            time.sleep(0.05)
            return super().read(rows)

    one, begun = loader(Slow()), time.monotonic()
    list(one.batches(0))
    assert 0.5 < one.waited() / (time.monotonic() - begun) <= 1


def test_prepared_images_come_in_blocks() -> None:
    told = list[tuple[str, str]]()
    one = loader(Reader({4: "lost"}), tell=lambda *what: told.append(what), micro_batch=6)
    rows = np.array([9, 4, 2, 30, 31, 32, 33, 9])
    blocks = list(one.prepared_images(rows))
    assert [len(block) for block, _ in blocks] == [6, 2]
    assert torch.cat([block for block, _ in blocks])[:, 0, 0, 0].tolist() == [9, 0, 2, 30, 31, 32, 33, 9]
    assert torch.cat([good for _, good in blocks]).tolist() == [True, False, *[True] * 6]
    assert told == [("id4", "lost")] and list(one.prepared_images(rows[:0])) == []
    # While a batch is trained on, and closed early.
    batches = one.batches(0)
    first = next(batches)
    some = one.prepared_images(rows)
    next(some)
    some.close()  # type: ignore[attr-defined]
    assert running() and len(first.ids) == 8
    batches.close()  # type: ignore[attr-defined]
    assert not running()


def test_with_a_real_model_and_real_shards(tmp_path: Path) -> None:
    broken = {3: png(3)[:40]}
    members = [(f"{n:03d}.png", broken.get(n, png(n, (40, 30)))) for n in range(12)]
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    catalog = locate(tmp_path / "catalog")
    tables, _ = catalog_all(webdataset(tmp_path / "a.tar"), catalog.uri)
    (name,) = tables.directory.names()
    table = (catalog / name).read_table(["id", "key"]).replace_schema_metadata(None)
    table = table.append_column("catalog", pa.array([name] * 12)).append_column("row", pa.array(range(12)))
    data = pairs(12)
    data = Pairs(data.image, data.level, data.weight, data.captions, table, data.held_out)
    backbone = tiny.load(tiny.write_clip(tmp_path / "clip"))
    found = list(Loader(data, ImageReader(catalog, table), backbone, settings(), World(), 7).batches(0))
    whole = torch.stack([backbone.prepare(Image.open(io.BytesIO(png(n, (40, 30))))) for n in range(12)])
    for batch in found:
        owners = batch.targets.owners
        assert torch.equal(batch.good, owners != 3)
        torch.testing.assert_close(batch.pixels[batch.good], whole[owners[batch.good]])
        texts = [f"caption {int(n)}" for n in batch.targets.weights]
        assert torch.equal(batch.tokens, backbone.tokenize(texts))
    assert torch.get_num_threads() == 1
