"""Generation by vLLM's asynchronous engine inside this process's actor, on CPUs and GPUs."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence
from typing import Any

from engine.errors import EngineDied, RecipeError
from engine.generation.first_word import ONE_TOKEN, sum_of, tokens_of
from engine.generation.meter import Meter
from engine.generation.protocol import Picture, Request, Response
from engine.generation.vllm_start import start_engine
from engine.generation.window import Window
from engine.recipe import Vllm

#: vLLM asks for a request again when its two image caches disagree, as after a cancelled request.
_TRIES = 3

#: What the engine's processes get to end by themselves before they are killed.
_SHUTDOWN_S = 10


class VllmGenerator:
    """Answers requests with vLLM's `AsyncLLM`. All calls must come from one event loop.

    The constructor returns when the model is loaded and requests can be answered.

    Raises:
        RecipeError: the model cannot be loaded, or an engine argument is wrong.
    """

    def __init__(self, settings: Vllm) -> None:
        self.meter = Meter()
        self._settings = settings
        self._window = Window(settings.requests_in_flight)
        self._numbers = itertools.count()
        self._words: dict[str, tuple[int, ...]] = {}
        self._engine, self._watchdog = start_engine(settings)
        from vllm.renderers import ChatParams

        # Models that can think aloud first are told not to: the answer alone counts here.
        # Templates that know no such switch ignore it.
        template = {"add_generation_prompt": True, "enable_thinking": False}
        self._chat = ChatParams(chat_template_kwargs=template)

    async def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request, in order; see `Generator.generate`.

        An answer cut at `max_tokens` is returned as it is, unless it had to follow a schema.

        Raises:
            RecipeError: the probability of a word is asked for that is none of the model's tokens.
        """
        with self.meter.working(len(requests)):
            return await self._window.run(requests, self._answer)

    async def close(self) -> None:
        """End the engine's processes."""
        # Else the task that reads answers takes the end of the process for a crash, and says so.
        if self._engine.output_handler is not None:
            self._engine.output_handler.cancel()
        await asyncio.to_thread(self._engine.shutdown, _SHUTDOWN_S)
        self._watchdog.close()

    async def _answer(self, request: Request) -> Response:
        for _ in range(_TRIES):
            response = await self._try(request)
            if response is not None:
                return response
        self.meter.count(errors=1)
        return Response(error="the engine failed on this request")

    async def _try(self, request: Request) -> Response | None:
        """The answer; None when the engine asks for the request again."""
        from vllm.exceptions import GracefulHTTPError, VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        tokens = self._tokens_of(request.probability_of)
        try:
            parameters = _parameters(request, tokens)
            prompt = await self._render(request)
        except Exception as error:  # a picture or text may upset any part of a model's processor
            return self._refuse(error)
        try:
            answers = self._engine.generate(prompt, parameters, f"r{next(self._numbers)}")
            final = [answer async for answer in answers][-1]  # there is but the final one
        except EngineDeadError as error:
            raise self._dead() from error
        except (VLLMClientError, GracefulHTTPError, ValueError) as error:
            return self._refuse(error)
        except EngineGenerateError as error:
            if self._engine.errored:
                raise self._dead() from error
            return None
        return self._read(request, final)

    def _tokens_of(self, word: str | None) -> tuple[int, ...]:
        """The tokens that read as a word whose probability is asked for; looked up once."""
        if word is None:
            return ()
        if word not in self._words:
            size = self._engine.vllm_config.model_config.get_vocab_size()
            self._words[word] = tokens_of(word, self._engine.get_tokenizer(), size)
        if not self._words[word]:
            raise RecipeError(
                f"model {self._settings.model}: none of its tokens is the word '{word}', so it has no "
                "probability as a first token; name another word (vqascore.answer) or another model"
            )
        return self._words[word]

    async def _render(self, request: Request) -> Any:
        if self._engine.errored:
            raise self._dead()
        _, (prompt,) = await self._engine.renderer.render_chat_async([_messages(request)], self._chat)
        return prompt

    def _read(self, request: Request, final: Any) -> Response | None:
        answer = final.outputs[0]
        if answer.finish_reason in ("error", "abort"):
            if self._engine.errored:
                raise self._dead()
            return None
        prompt_tokens, output_tokens = len(final.prompt_token_ids), len(answer.token_ids)
        cut = request.schema is not None and answer.finish_reason == "length"
        error = "answer cut at max_tokens" if cut else None
        probability = None
        if request.probability_of is not None:
            first = answer.logprobs[0]
            probability = sum_of(first[token].logprob for token in self._tokens_of(request.probability_of))
        self.meter.count(
            errors=int(cut),
            prompt_tokens=prompt_tokens,
            cached_tokens=final.num_cached_tokens or 0,
            output_tokens=output_tokens,
        )
        return Response(answer.text, prompt_tokens, output_tokens, error, probability)

    def _refuse(self, error: Exception) -> Response:
        if isinstance(error, EngineDied):
            raise error
        self.meter.count(errors=1)
        return Response(error=refusal(str(error) or type(error).__name__))

    def _dead(self) -> EngineDied:
        return EngineDied(f"the vLLM engine of {self._settings.model} died; --verbose shows its log")


def refusal(message: str) -> str:
    """A reason that reads the same for every request refused for it: short, and without numbers."""
    if "maximum context length" in message or "maximum model length" in message:
        return "prompt longer than max_model_len"
    first = re.split(r"(?<=[a-z])[.:] |\n", message.strip(), maxsplit=1)[0]
    return "refused by the engine: " + re.sub(r"\d+", "N", first)[:100]


def _messages(request: Request) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for piece in request.content:
        if isinstance(piece, Picture):
            # The name spares hashing the pixels; a picture is prepared and encoded once.
            content.append({"type": "image_pil", "image_pil": piece.image, "uuid": piece.id})
        else:
            content.append({"type": "text", "text": piece})
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, {"role": "user", "content": content}]


def _parameters(request: Request, tokens: Sequence[int]) -> Any:
    """What vLLM is asked; `tokens` are those whose probability as the first one is wanted.

    vLLM tells the log-probabilities of exactly these, over the whole vocabulary and before temperature
    and top_p (its `logprobs_mode`, which `vllm_settings` keeps from being one of logits).
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling = ONE_TOKEN if tokens else request.sampling
    schema = StructuredOutputsParams(json=dict(request.schema)) if request.schema is not None else None
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=request.seed,
        structured_outputs=schema,
        logprob_token_ids=list(tokens) or None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
