"""A bank of encoders: what is done beside what."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
from PIL import Image

from engine.encoders import EncoderName
from engine.encoders.bank import EncoderBank
from engine.recipe import Embed
from tests.encoders import own

NAME = "python:tests.encoders.own:colours"
#: Seconds after which what is waited for does not come.
LIMIT_S = 60


def red(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (2, 2), (255, 0, 0))] * count


def test_a_batch_is_prepared_while_another_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, both, computing = list[Any](), threading.Event(), threading.Event()
    prepare, embed = own.Colours.prepare, own.Colours.embed_images

    def noted(self: own.Colours, image: Any) -> Any:
        prepared.append(image)
        if len(prepared) == 5:
            both.set()
        return prepare(self, image)

    def waiting(self: own.Colours, images: Any) -> Any:
        computing.set()
        assert both.wait(LIMIT_S), "the second batch is prepared only behind the first"
        return embed(self, images)

    monkeypatch.setattr(own.Colours, "prepare", noted)
    monkeypatch.setattr(own.Colours, "embed_images", waiting)
    bank = EncoderBank(Embed(encoders=(NAME,)))

    async def two() -> list[Any]:
        name = EncoderName.parse(NAME)
        first = asyncio.create_task(bank.embed_images(name, red(2)))
        assert await asyncio.to_thread(computing.wait, LIMIT_S)
        return [await bank.embed_images(name, red(3)), await first]

    assert [vectors.shape for vectors in asyncio.run(two())] == [(3, 3), (2, 3)]


def test_what_prepares_gives_way_to_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = dict[str, int]()
    prepare, embed = own.Colours.prepare, own.Colours.embed_images

    def note(what: str) -> None:
        found[what] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    monkeypatch.setattr(own.Colours, "prepare", lambda *given: [note("prepare"), prepare(*given)][1])
    monkeypatch.setattr(own.Colours, "embed_images", lambda *given: [note("embed"), embed(*given)][1])
    asyncio.run(EncoderBank(Embed(encoders=(NAME,))).embed_images(EncoderName.parse(NAME), red(1)))
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert found == {"prepare": min(here + 10, 19), "embed": here}


def test_where_priorities_are_forbidden_it_works_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    bank = EncoderBank(Embed(encoders=(NAME,)))
    assert asyncio.run(bank.embed_images(EncoderName.parse(NAME), red(1))).shape == (1, 3)
