"""Start vLLM's engine, or say in the recipe's words why it cannot start."""

from __future__ import annotations

import re
import time
from typing import Any

from engine.errors import RecipeError
from engine.generation.vllm_settings import engine_arguments, prepare_environment
from engine.generation.watchdog import Watchdog
from engine.recipe import Vllm

#: A GPU's memory is free again some seconds after the engine that held it has died.
_GPU_WAIT_S = 15.0


def start_engine(settings: Vllm) -> tuple[Any, Watchdog]:
    """Start vLLM's `AsyncLLM` and a watchdog over its processes; the model is loaded when it returns.

    Raises:
        RecipeError: vLLM is missing or does not fit the machine, the model cannot be loaded, or an
            engine argument is wrong.
    """
    prepare_environment(settings)
    _check_platform(settings)
    config, quiet = _configure(settings)
    watchdog = Watchdog()
    try:
        with watchdog.during_start():
            try:
                return _launch(config, quiet), watchdog
            except RuntimeError:
                # Its process may have been killed, or found the memory of a dead one still taken.
                time.sleep(_GPU_WAIT_S if settings.gpus else 0)
                return _launch(config, quiet), watchdog
    except Exception as error:
        watchdog.close()
        raise RecipeError(
            f"model {settings.model}: vLLM did not start ({_brief(error)}). The log of its process, shown "
            "with --verbose, says why; settings that often help: max_model_len, "
            "engine.kv_cache_memory_bytes, engine.gpu_memory_utilization"
        ) from error


def _check_platform(settings: Vllm) -> None:
    try:
        from vllm.platforms import current_platform
    except ImportError as error:
        raise RecipeError(
            f"backend vllm: vLLM cannot be imported ({error}); install requirements/cpu.txt or gpu.txt"
        ) from error
    on_cpu: bool = current_platform.is_cpu()
    if on_cpu and settings.gpus > 0:
        raise RecipeError(
            f"gpus: {settings.gpus:g}, but the vLLM installed here is the CPU build; "
            "set gpus: 0, or install requirements/gpu.txt"
        )
    if not on_cpu and settings.gpus == 0:
        raise RecipeError(
            "gpus: 0, but the vLLM installed here needs a GPU; set gpus: 1, or install requirements/cpu.txt"
        )


def _configure(settings: Vllm) -> tuple[Any, bool]:
    from vllm import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    arguments = engine_arguments(settings)
    try:
        # The context of vLLM's batch class, whose defaults are set for throughput.
        config = AsyncEngineArgs(**arguments).create_engine_config(UsageContext.LLM_CLASS)
    except OSError as error:
        raise RecipeError(
            f"model {settings.model}: cannot be loaded ({_brief(error)}); name a directory with config.json "
            "and *.safetensors, or a hub name that this machine can reach or has in its cache"
        ) from error
    except Exception as error:
        raise RecipeError(f"model {settings.model}: vLLM refuses its settings: {_brief(error)}") from error
    return config, bool(arguments["disable_log_stats"])


def _launch(config: Any, quiet: bool) -> Any:
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_vllm_config(config, disable_log_stats=quiet)


def _brief(error: Exception) -> str:
    """The first sentences of vLLM's or the hub's message, on one line."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
