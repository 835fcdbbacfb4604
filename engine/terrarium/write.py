"""Write scenes as WebDataset tars: ``python -m engine.terrarium.write DIRECTORY --scenes 1000``.

Per scene ``KEY.png``, its description ``KEY.txt``, and its truth ``KEY.json``. The same command
writes the same bytes, and no scene of these tars is among those the models were trained on. With
``--families`` they are scenes of `engine.terrarium.families`, which form clusters, and the truth
names the family of each.
"""

import argparse
import io
import json
import tarfile
from dataclasses import asdict
from pathlib import Path

from engine.terrarium.families import Family, family_scene
from engine.terrarium.grammar import description
from engine.terrarium.lexicon import LEVELS, valid_associations
from engine.terrarium.render import image
from engine.terrarium.world import TRAINING_SEED, Scene, scene


def write_shards(
    directory: Path, scenes: int, shard_rows: int, seed: int, families: bool = False
) -> list[Path]:
    """Write tars of up to `shard_rows` scenes, named ``terrarium-000000.tar`` and so on.

    Args:
        directory: Created if missing.
        scenes: How many scenes, at least 1.
        shard_rows: Scenes per tar, at least 1.
        seed: From 0 to below `TRAINING_SEED`.
        families: Write scenes of families instead of free ones.

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
                family, one = family_scene(seed, index) if families else (None, scene(seed, index))
                _add(tar, one, family)
        paths.append(path)
    return paths


def truth(scene: Scene, family: Family | None = None) -> dict[str, object]:
    """Everything true of a scene, ready for JSON; associations by kind and level.

    The name of its family is there only where it has one.
    """
    facts = asdict(scene) | {"mood": scene.mood, "description": description(scene)}
    facts["associations"] = {
        kind: {level: sorted(valid_associations(scene, kind, level)) for level in LEVELS}
        for kind in scene.kinds
    }
    if family is not None:
        facts["family"] = family.name
    return facts


def _add(tar: tarfile.TarFile, scene: Scene, family: Family | None) -> None:
    png = io.BytesIO()
    image(scene).save(png, "PNG")
    key = f"{scene.seed:06d}-{scene.index:08d}"
    members = {
        "png": png.getvalue(),
        "txt": description(scene).encode(),
        "json": json.dumps(truth(scene, family), sort_keys=True).encode(),
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
    parser.add_argument("--families", action="store_true", help="scenes of families: they form clusters")
    options = parser.parse_args()
    try:
        paths = write_shards(
            options.directory, options.scenes, options.shard_rows, options.seed, options.families
        )
    except ValueError as error:
        parser.error(str(error))
    print(f"{options.scenes} scenes in {len(paths)} tars in {options.directory}")


if __name__ == "__main__":
    main()
