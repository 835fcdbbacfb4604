"""A script whose engine dies on one sample, every time."""

from engine.errors import EngineDied
from engine.generation.protocol import Request
from engine.generation.scripted import answer as scripted


def answer(request: Request) -> str:
    """As the default script, but for one colour of image the engine dies."""
    if request.task == "describe" and request.pictures[0].image.getpixel((0, 0))[1] == 7:
        raise EngineDied("killed by sample 7")
    return scripted(request)
