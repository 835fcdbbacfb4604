"""From a recipe's vLLM section to the engine's arguments and the environment it starts in."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from engine.errors import RecipeError
from engine.recipe import Vllm

#: Arguments that have settings of their own, where the recipe checks and fingerprints them.
_OWN_SETTINGS = {"model", "revision", "dtype", "max_model_len", "trust_remote_code"}

#: Ways of loading that read safetensors only (or, for tests of speed, nothing at all).
_SAFE_FORMATS = {"safetensors", "fastsafetensors", "runai_streamer", "dummy"}

#: Over what a model is spread; each GPU of an engine has its place in all of them.
_TENSOR = "tensor_parallel_size"
_PARALLEL = (_TENSOR, "pipeline_parallel_size", "data_parallel_size", "prefill_context_parallel_size")

_KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
_BIND = "VLLM_CPU_OMP_THREADS_BIND"
_GIB = 2**30


def resolve_model(model: str) -> str:
    """The directory or hub name to load; `terrarium` is the model that comes with the package.

    Raises:
        RecipeError: the package's model has not been trained, or a directory holds no model.
    """
    if model != "terrarium":
        directory = Path(model).expanduser()
        if model and directory.is_dir() and not (directory / "config.json").is_file():
            raise RecipeError(f"model {model}: the directory holds no config.json; name a model's directory")
        return os.path.expanduser(model)
    from engine.terrarium import MODEL_DIR

    if not (MODEL_DIR / "config.json").is_file():
        raise RecipeError(
            f"model terrarium: {MODEL_DIR} holds no model; train it with `python -m engine.terrarium.train`"
        )
    return str(MODEL_DIR)


def prepare_environment(settings: Vllm) -> None:
    """Set what vLLM and its processes read from the environment, where nobody else has set it.

    Must run before vllm is first imported in this process.

    On CPUs vLLM starts two processes (scheduler and worker) and pins the worker's threads to
    cores of its choice, leaving out one core. An actor may use `cpus` cores and shares its machine
    with others, so here its threads are as many as that and unpinned, and the worker runs in the
    scheduler's process, which spares half of the start-up. Waiting threads must sleep: spinning
    ones cost a factor of ten when other processes use the same cores. A model that runs eagerly, as
    all do there unless `engine` says otherwise, has nothing for torch to compile but the ranks of
    log-probabilities, which nobody reads: an engine's first such request would wait for a compiler.
    """
    on_cpu = settings.gpus == 0
    # On CPUs vLLM warns about each of the choices below, in every process.
    values = {
        "VLLM_LOGGING_LEVEL": "ERROR" if on_cpu else "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
    }
    if on_cpu:
        values |= {
            "PYTHONWARNINGS": "ignore::FutureWarning",
            "TORCH_CPP_LOG_LEVEL": "ERROR",
            "OMP_WAIT_POLICY": "PASSIVE",
            "OMP_NUM_THREADS": str(max(1, int(settings.cpus))),
        }
        if settings.engine.get("enforce_eager", True):
            values["TORCHDYNAMO_DISABLE"] = "1"
        if _one_worker(settings.engine) and os.environ.get(_BIND, "nobind") == "nobind":
            values |= {_BIND: "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    for name, value in values.items():
        os.environ.setdefault(name, value)


def engine_arguments(settings: Vllm) -> dict[str, Any]:
    """The AsyncEngineArgs of a recipe section; `settings.engine` has the last word.

    Raises:
        RecipeError: an argument is unknown to vLLM, has a setting of its own, would load
            weights that are not safetensors, or would give logits for log-probabilities.
    """
    _check_names(settings.engine)
    arguments: dict[str, Any] = {
        "model": resolve_model(settings.model),
        "revision": settings.revision,
        "tokenizer_revision": settings.revision,
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "trust_remote_code": settings.trust_remote_code,
        "load_format": "safetensors",
        "max_num_seqs": settings.requests_in_flight,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **(_cpu_arguments(settings) if settings.gpus == 0 else _gpu_arguments(settings)),
        **settings.engine,
    }
    if arguments["load_format"] not in _SAFE_FORMATS:
        raise RecipeError(
            f"engine.load_format: {arguments['load_format']} may load weights that are not safetensors; "
            f"use one of {', '.join(sorted(_SAFE_FORMATS))}"
        )
    if str(arguments.get("logprobs_mode", "")).endswith("_logits"):
        raise RecipeError(
            f"engine.logprobs_mode: {arguments['logprobs_mode']} gives no probabilities, which some requests "
            "ask for; take it out"
        )
    return {name: value for name, value in arguments.items() if value is not None}


def _gpu_arguments(settings: Vllm) -> dict[str, Any]:
    """How the model lies on the actor's GPUs: what `engine` leaves of them is tensor parallel."""
    gpus, given = max(1, int(settings.gpus)), {name: settings.engine.get(name) or 1 for name in _PARALLEL}
    asked = math.prod(given.values())
    if not settings.engine.get(_TENSOR) and gpus % asked == 0:
        given[_TENSOR] = gpus // asked
    elif asked != gpus:
        said = ", ".join(f"{name} {size}" for name, size in given.items() if size != 1)
        raise RecipeError(
            f"gpus: an actor has {settings.gpus:g}, and engine asks for {asked} ({said}); they must be as "
            "many: an engine has its actor's GPUs, and all of them"
        )
    if settings.gpus < 1:
        # Actors that share a GPU share its memory.
        return {"gpu_memory_utilization": 0.9 * settings.gpus}
    # Named, because inside a Ray placement group vLLM would ask Ray for workers of its own.
    return {_TENSOR: given[_TENSOR], "distributed_executor_backend": "mp"} if gpus > 1 else {}


def _cpu_arguments(settings: Vllm) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "enforce_eager": True,
        # vLLM rewinds the generator of a seeded request whose prefill was cut into chunks; CPU
        # generators cannot be rewound, and the engine would die.
        "enable_chunked_prefill": False,
        # Prefixes are shared in whole blocks. The default of 128 tokens is longer than the prompts
        # of a small model; CPU kernels want multiples of 32.
        "block_size": 32,
        "mm_processor_cache_gb": 1,
    }
    if _one_worker(settings.engine) and os.environ.get(_BIND) == "nobind":
        arguments["distributed_executor_backend"] = "uni"
    if not os.environ.get(_KV_SPACE):
        arguments["kv_cache_memory_bytes"] = _kv_bytes()
    return arguments


def _kv_bytes() -> int:
    """A quarter of the free memory, at most 4 GiB: vLLM's default is nine tenths of the machine."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(_GIB // 2, min(4 * _GIB, free // 4))


def _one_worker(engine: Mapping[str, Any]) -> bool:
    return all((engine.get(name) or 1) == 1 for name in _PARALLEL)


def _check_names(engine: Mapping[str, Any]) -> None:
    from vllm import AsyncEngineArgs

    known = {field.name for field in fields(AsyncEngineArgs)}
    for name in engine:
        if name in _OWN_SETTINGS:
            raise RecipeError(f"engine.{name}: set `{name}` of the generator instead, beside `model`")
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise RecipeError(f"engine.{name}: vLLM has no such argument{hint}")
