"""A script whose engine dies on one sample, every time."""

from engine.errors import EngineDied
from engine.generation.protocol import Request
from engine.generation.scripted import answer as scripted


def answer(request: Request) -> str:
    """As the default script, but for one colour of image the engine dies."""
    return _answer(request, "describe")


def answer_late(request: Request) -> str:
    """The same, but only when its captions are asked for."""
    return _answer(request, "caption")


def _answer(request: Request, task: str) -> str:
    if request.task == task and request.pictures[0].image.getpixel((0, 0))[1] == 7:
        raise EngineDied("killed by sample 7")
    return scripted(request)
