"""First half of the training: the vision tower learns to see before the language model speaks.

Next-token loss alone tells the tower little about a picture, and late. Here every patch is asked
which kind and colour covers it, whether an element's centre lies in it, and what the ground and
the light are: some three hundred answers an image instead of thirty, none of which needs language.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel

from engine.terrarium.render import mask, render
from engine.terrarium.vision_shape import GRID, PATCH, vision_config
from engine.terrarium.world import COLOURS, GROUNDS, KINDS, LIGHTS, SIDE, Scene

Labels = npt.NDArray[np.int64]

QUESTIONS = {
    "kind": 1 + len(KINDS),
    "colour": 1 + len(COLOURS),
    "centre": 2,
    "ground": len(GROUNDS),
    "light": len(LIGHTS),
}
IGNORED = -100


class Seer(nn.Module):
    """A vision tower, by default the describing model's, with one linear answer per patch and question."""

    def __init__(self, config: CLIPVisionConfig | None = None) -> None:
        super().__init__()
        config = config or vision_config()
        self.tower = CLIPVisionModel(config)
        self.heads = nn.Linear(config.hidden_size, sum(QUESTIONS.values()))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Answer every question of every patch.

        Args:
            pixels: Shape (n, 3, 64, 64), from -1 to 1.

        Returns:
            Logits by question, each (n, patches, answers).
        """
        answers: Tensor = self.heads(self.features(pixels))
        return list(torch.split(answers, list(QUESTIONS.values()), dim=-1))

    def features(self, pixels: Tensor) -> Tensor:
        """What the language model gets to see, shape (n, patches, width)."""
        hidden: Tensor = self.tower(pixel_values=pixels).last_hidden_state
        return hidden[:, 1:]


def to_pixels(scenes: list[Scene]) -> Tensor:
    """Render scenes as the model's input, shape (n, 3, 64, 64), float32 from -1 to 1."""
    stack = np.stack([render(scene) for scene in scenes])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def labels(scene: Scene) -> Labels:
    """The right answers of one scene.

    Returns:
        Shape (questions, patches), int64; `IGNORED` where a patch is barely covered.
    """
    answers = np.zeros((len(QUESTIONS), GRID, GRID), dtype=np.int64)
    most = np.zeros((GRID, GRID), dtype=np.float32)
    for element in scene.elements:
        canvas = np.zeros((SIDE, SIDE), dtype=np.float32)
        rows = slice(element.top, element.top + element.size)
        columns = slice(element.left, element.left + element.size)
        canvas[rows, columns] = mask(element)
        cover = canvas.reshape(GRID, PATCH, GRID, PATCH).mean(axis=(1, 3))
        touched, owned = (cover > 0.04) & (cover > most), (cover > 0.2) & (cover > most)
        answers[:2, touched] = IGNORED
        answers[0, owned] = 1 + KINDS.index(element.kind)
        answers[1, owned] = 1 + COLOURS.index(element.colour)
        most = np.maximum(most, cover)
        middle = element.size / 2
        answers[2, int(element.top + middle) // PATCH, int(element.left + middle) // PATCH] = 1
    answers[3] = GROUNDS.index(scene.ground)
    answers[4] = LIGHTS.index(scene.light)
    return answers.reshape(len(QUESTIONS), -1)


def loss(answers: list[Tensor], right: Tensor) -> Tensor:
    """Mean cross-entropy summed over the questions, the kind counted double.

    Args:
        answers: As `Seer.forward` returns them.
        right: Shape (n, questions, patches).
    """
    parts = [
        functional.cross_entropy(part.float().flatten(0, 1), right[:, number].flatten())
        for number, part in enumerate(answers)
    ]
    return 2 * parts[0] + parts[1] + parts[2] + 0.3 * (parts[3] + parts[4])


@torch.no_grad()
def accuracy(seer: Seer, scenes: list[Scene]) -> dict[str, float]:
    """Share of right answers: by question, on covered patches for kind and colour."""
    right = torch.from_numpy(np.stack([labels(scene) for scene in scenes]))
    device = next(seer.parameters()).device
    answers = seer(to_pixels(scenes).to(device))
    shares = {}
    for number, name in enumerate(QUESTIONS):
        wanted = right[:, number]
        asked = wanted > 0 if number < 3 else wanted >= 0
        given = answers[number].argmax(dim=-1).cpu()
        shares[name] = float((given == wanted)[asked].float().mean())
    return shares
