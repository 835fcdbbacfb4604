"""Co-captions on Ray: tasks compare the captions of some parts, and what they counted adds up.

A task returns a histogram and three numbers an image, however many pairs there are, so an answer is
the same however the parts are cut into slices, and memory holds one part.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import ray

from engine.device import device_of
from engine.evaluation.co_asked import CoAsked
from engine.evaluation.co_captions import Compared
from engine.evaluation.co_figures import ANSWER, CO_CAPTIONS, Tally, answer
from engine.evaluation.co_page import co_captions_picture, co_captions_section
from engine.evaluation.tables import Evaluation
from engine.flow.spread import call, each, slices
from engine.recipe import Evaluate


def measure_co_captions(
    work: Sequence[CoAsked],
    settings: Evaluate,
    seed: int,
    start_ray: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Find what is not known yet of each encoder on each set; what is known stays as it is.

    Raises:
        RecipeError: a model of BERTScore cannot be had; answers that are there are kept.
        StorageError: a run directory fails.
    """
    for one in work:
        if one.answer.exists():
            continue
        start_ray()
        say(f"comparing  captions of each image of {one.chosen.name} by {one.model}")
        # Cosines take less than reading the vectors does: a task needs no more than its processor.
        cpus, gpus = (settings.cpus, settings.gpus) if one.computes else (1, 0)
        pieces = each(
            slices(one.plan.to_pylist()),
            _tally,
            one.compared,
            gpus,
            cpus=cpus,
            gpus=gpus,
        )
        one.answer.write_table(call(_summed, pieces, settings.draws, seed))


def tell_co_captions(place: Evaluation, work: Sequence[CoAsked]) -> str:
    """Write the tables of all encoders and sets and the pictures; returns the page's section.

    Args:
        place: where they are written.
        work: at least one, all of them measured.
    """
    rows = [
        {**row, "set": one.chosen.name, "encoder": one.model}
        for one in work
        for row in one.answer.read_table().cast(ANSWER).to_pylist()
    ]
    table = pa.Table.from_pylist(rows, schema=CO_CAPTIONS)
    text = io.BytesIO()
    pyarrow.csv.write_csv(table, text)
    parquet, csv = place.co_captions
    parquet.write_table(table)
    csv.write_bytes(text.getvalue())
    title, pictures = "Similarity of captions of one image", list[str]()
    names = list(dict.fromkeys(row["set"] for row in rows))
    drawn = {
        place.picture("co-captions", name): co_captions_picture(
            f"{title}: {name}", [row for row in rows if row["set"] == name]
        )
        for name in names
    }
    if len(names) > 1:
        drawn[place.directory / "co-captions.png"] = co_captions_picture(title, rows)
    for picture, data in drawn.items():
        if data is not None:
            picture.write_bytes(data)
            pictures.append(picture.name)
    return co_captions_section(rows, pictures)


def _tally(rows: Sequence[Mapping[str, Any]], compared: Compared, gpus: float) -> Tally:
    return Tally.of(
        compared.compare(rows, device_of(gpus, "evaluate.gpus")), sum(row["rows"] for row in rows)
    )


def _summed(pieces: Sequence[Any], draws: int, seed: int) -> pa.Table:
    return answer(Tally.joined(ray.get(list(pieces))), draws, seed)
