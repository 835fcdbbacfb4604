"""Generators: what answers a stage's requests, behind one protocol.

`build_generator` makes one from a recipe's section; `generator_digest` names what of that section
decides the answers.
"""

from __future__ import annotations

import inspect

from engine.generation.protocol import Generator, Picture, Request, Response, derive_seed
from engine.recipe import OpenAI, Scripted, Vllm

Settings = Vllm | OpenAI | Scripted

#: vLLM arguments that change how fast a model answers but not what it says. Any other argument
#: of `engine` counts as deciding the output: one too many only repeats work.
_SPEED_ONLY = frozenset(
    {
        "block_size",
        "disable_log_stats",
        "distributed_executor_backend",
        "enable_log_requests",
        "enable_prefix_caching",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_num_batched_tokens",
        "max_num_seqs",
        "mm_processor_cache_gb",
        "mm_processor_cache_type",
        "pipeline_parallel_size",
        "renderer_num_workers",
        "tensor_parallel_size",
        "use_tqdm_on_load",
    }
)


def build_generator(name: str, settings: Settings) -> Generator:
    """Make the generator of the recipe's section `generators.NAME`; it is ready when this returns.

    Raises:
        RecipeError: its model, server, key or script cannot be used; the message names the setting.
    """
    from engine.errors import RecipeError

    try:
        match settings:
            case Vllm():
                from engine.generation.vllm_engine import VllmGenerator

                return VllmGenerator(settings)
            case OpenAI():
                from engine.generation.openai_server import OpenAIGenerator

                return OpenAIGenerator(settings)
            case Scripted():
                from engine.generation.scripted import ScriptedGenerator

                return ScriptedGenerator(settings)
    except RecipeError as error:
        raise RecipeError(f"generators.{name}: {error}") from error


def generator_digest(settings: Settings) -> str:
    """Hex digest of what decides a generator's answers to the same requests.

    For vLLM the model's content (of a hub name: name and revision), its number format, its
    context length and engine arguments; for a server the model's name (where it runs decides
    nothing); for a script its source text.
    How many actors, processors and requests there are is not in it.

    Raises:
        RecipeError: the model or script does not exist.
    """
    from engine.storage.fingerprint import digest_of, digest_settings, model_digest

    match settings:
        case Vllm():
            from engine.generation.vllm_settings import resolve_model

            model = model_digest(resolve_model(settings.model), settings.revision)
            engine = {name: value for name, value in settings.engine.items() if name not in _SPEED_ONLY}
            decides = {"dtype": settings.dtype, "max_model_len": settings.max_model_len, "engine": engine}
            return digest_of("vllm", model, digest_settings(decides))
        case OpenAI():
            return digest_of("openai", settings.model)
        case Scripted():
            from engine.generation.scripted import load_script

            module = inspect.getmodule(load_script(settings.script))
            source = inspect.getsource(module) if module else ""
            return digest_of("scripted", settings.script, source)


__all__ = [
    "Generator",
    "Picture",
    "Request",
    "Response",
    "Settings",
    "build_generator",
    "derive_seed",
    "generator_digest",
]
