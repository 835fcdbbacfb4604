"""A whole recipe."""

from __future__ import annotations

from pydantic import Field, model_validator

from engine.evaluation.bertscore_name import is_bertscore
from engine.recipe.analysis import Cluster, Polysemy, Sample
from engine.recipe.embedding import Embed
from engine.recipe.evaluation import Difficulty, Evaluate, Pairs
from engine.recipe.finetune import Finetune
from engine.recipe.generators import Generator
from engine.recipe.inputs import Images, Run
from engine.recipe.section import Section
from engine.recipe.stages import Associate, Caption, Describe, Stage, VQAScore


class Recipe(Section):
    """A whole recipe. A section that is absent is not run."""

    images: Images
    run: Run = Run()
    generators: dict[str, Generator] = Field(default_factory=dict)
    describe: Describe | None = None
    associate: Associate | None = None
    caption: Caption | None = None
    vqascore: VQAScore | None = None
    embed: Embed | None = None
    cluster: Cluster | None = None
    sample: Sample | None = None
    polysemy: Polysemy | None = None
    difficulty: Difficulty | None = None
    evaluate: Evaluate | None = None
    finetune: Finetune | None = None

    @model_validator(mode="after")
    def _stages_stand_on_each_other(self) -> Recipe:
        asking: list[tuple[str, Stage | VQAScore]] = [*self.stages()]
        asking += [("vqascore", self.vqascore)] if self.vqascore else []
        for name, stage in asking:
            if stage.generator not in self.generators:
                known = ", ".join(self.generators) or "none"
                raise ValueError(f"{name}.generator: '{stage.generator}' is not under generators ({known})")
        if self.caption and not self.associate:
            raise ValueError("caption needs the section associate")
        if self.associate and not self.describe:
            raise ValueError("associate needs the section describe")
        if self.embed and "mined" in self.embed.texts and not self.caption:
            raise ValueError("embed.texts: mined captions need the section caption")
        if self.vqascore and "mined" in self.vqascore.captions and not self.caption:
            raise ValueError("vqascore.captions: mined captions need the section caption")
        if self.finetune and "mined" in self.finetune.data.captions and not self.caption:
            raise ValueError(
                "finetune.data.captions: mined captions need the section caption; add it, or take [original]"
            )
        return self

    @model_validator(mode="after")
    def _jobs_have_vectors(self) -> Recipe:
        known = self.embed.encoders if self.embed else ()
        asked = [("cluster.encoder", self.cluster.encoder)] if self.cluster else []
        texts: list[tuple[str, str]] = []
        if self.polysemy:
            asked.append(("polysemy.image_encoder", self.polysemy.image_encoder))
            asked.append(("polysemy.text_encoder", self.polysemy.text_encoder))
            texts += [("polysemy.texts", text) for text in self.polysemy.texts]
        if self.evaluate and (here := [each for each in self.evaluate.asked if each.run is None]):
            asked += [("evaluate.models", model) for model in self.evaluate.models]
            embedded = [name for name in self.evaluate.co_captions if not is_bertscore(name)]
            asked += [("evaluate.co_captions", name) for name in embedded]
            texts += [(each.place, text) for each in here for text in each.needs]
        if self.difficulty:
            asked += [("difficulty.voters", voter) for voter in self.difficulty.voters]
            divided = [Pairs(captions=captions) for captions in self.difficulty.captions]
            texts += [("difficulty.captions", each.source) for each in divided]
            if self.difficulty.calibration.run is None:
                texts.append(("difficulty.calibration.captions", self.difficulty.calibration.source))
        for setting, text in texts:
            if self.embed and text not in self.embed.texts:
                raise ValueError(f"{setting}: {text} captions are not among embed.texts; add them there")
        for setting, encoder in asked:
            if encoder not in known:
                listed = ", ".join(known) or "none"
                other = ", or write bertscore:MODEL" if setting == "evaluate.co_captions" else ""
                raise ValueError(
                    f"{setting}: '{encoder}' is not one of embed.encoders ({listed}); add it there{other}"
                )
        if self.sample and not self.cluster:
            raise ValueError("sample needs the section cluster: it samples on its map")
        if self.polysemy and self.polysemy.radius == "map" and not self.cluster:
            raise ValueError("polysemy.radius: map needs the section cluster")
        return self

    def stages(self) -> list[tuple[str, Describe | Associate | Caption]]:
        """The generating stages that this recipe runs, in their order."""
        named = (("describe", self.describe), ("associate", self.associate), ("caption", self.caption))
        return [(name, stage) for name, stage in named if stage is not None]
