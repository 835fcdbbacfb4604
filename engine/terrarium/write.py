"""Write scenes as WebDataset tars: ``python -m engine.terrarium.write DIRECTORY --scenes 1000``.

Per scene ``KEY.png``, its description ``KEY.txt``, and its truth ``KEY.json``. The same command
writes the same bytes, and no scene of these tars is among those the models were trained on.
"""

import argparse
import io
import json
import tarfile
from dataclasses import asdict
from pathlib import Path

from engine.terrarium.grammar import description
from engine.terrarium.lexicon import LEVELS, valid_associations
from engine.terrarium.render import image
from engine.terrarium.world import TRAINING_SEED, Scene, scene


def write_shards(directory: Path, scenes: int, shard_rows: int, seed: int) -> list[Path]:
    """Write tars of up to `shard_rows` scenes, named ``terrarium-000000.tar`` and so on.

    Args:
        directory: Created if missing.
        scenes: How many scenes, at least 1.
        shard_rows: Scenes per tar, at least 1.
        seed: From 0 to below `TRAINING_SEED`.

    Returns:
        The tars, in order.

    Raises:
        ValueError: An argument is out of its range.
    """
    if scenes < 1 or shard_rows < 1:
        raise ValueError("scenes and shard_rows must be at least 1")
    if not 0 <= seed < TRAINING_SEED:
        raise ValueError(f"seed must be from 0 to {TRAINING_SEED - 1}: later ones are for training")
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for first in range(0, scenes, shard_rows):
        path = directory / f"terrarium-{first // shard_rows:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for index in range(first, min(first + shard_rows, scenes)):
                _add(tar, scene(seed, index))
        paths.append(path)
    return paths


def truth(scene: Scene) -> dict[str, object]:
    """Everything true of a scene, ready for JSON; associations by kind and level."""
    facts = asdict(scene) | {"mood": scene.mood, "description": description(scene)}
    facts["associations"] = {
        kind: {level: sorted(valid_associations(scene, kind, level)) for level in LEVELS}
        for kind in scene.kinds
    }
    return facts


def _add(tar: tarfile.TarFile, scene: Scene) -> None:
    png = io.BytesIO()
    image(scene).save(png, "PNG")
    key = f"{scene.seed:06d}-{scene.index:08d}"
    members = {
        "png": png.getvalue(),
        "txt": description(scene).encode(),
        "json": json.dumps(truth(scene), sort_keys=True).encode(),
    }
    for ending, content in members.items():
        # TarInfo's defaults (time 0, no owner) keep the bytes the same everywhere.
        member = tarfile.TarInfo(f"{key}.{ending}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description="Write labelled scenes as WebDataset tars.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--scenes", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--shard-rows", type=int, default=250, help="per tar (default 250)")
    parser.add_argument("--seed", type=int, default=0, help="which scenes (default 0)")
    options = parser.parse_args()
    try:
        paths = write_shards(options.directory, options.scenes, options.shard_rows, options.seed)
    except ValueError as error:
        parser.error(str(error))
    print(f"{options.scenes} scenes in {len(paths)} tars in {options.directory}")


if __name__ == "__main__":
    main()
