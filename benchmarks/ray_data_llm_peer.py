"""The peer of `ray_data_llm`: run by it in the other environment; needs nothing of this project."""

from __future__ import annotations

import base64
import io
import os
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

# As the engine sets them for its own vLLM: two threads, not pinned, which sleep while they wait.
os.environ.update(
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    OMP_NUM_THREADS="2",
    OMP_WAIT_POLICY="PASSIVE",
    VLLM_CPU_KVCACHE_SPACE="4",
    VLLM_LOGGING_LEVEL="ERROR",
    VLLM_NO_USAGE_STATS="1",
    RAY_USAGE_STATS_ENABLED="0",
)

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

REQUESTS_IN_FLIGHT, BATCHES_IN_FLIGHT = 128, 4


def read_tar(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The images of a tar, encoded."""
    rows = []
    with tarfile.open(row["path"]) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None and member.name.endswith((".png", ".jpg")):
                rows.append({"key": member.name, "image": file.read()})
    return rows


def ask(row: dict[str, Any]) -> dict[str, Any]:
    """The messages and sampling of one image."""
    from PIL import Image

    kind = Image.open(io.BytesIO(row["image"])).format or "PNG"
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(row['image']).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "describe"}]
    return {
        "messages": [{"role": "user", "content": content}],
        "sampling_params": {"temperature": 0, "top_p": 1, "max_tokens": 96},
        "key": row["key"],
    }


def keep(row: dict[str, Any]) -> dict[str, Any]:
    """What is written."""
    return {"key": row["key"], "description": row["generated_text"]}


def main(images: str, out: str, model: str, batch: int) -> float:
    """Descriptions/s without the first and the last `BATCHES_IN_FLIGHT` batches."""
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    config = vLLMEngineProcessorConfig(
        model_source=model,
        batch_size=batch,
        concurrency=1,
        max_concurrent_batches=BATCHES_IN_FLIGHT,
        placement_group_config={"bundle_per_worker": {"CPU": 1}},
        engine_kwargs={
            "dtype": "bfloat16",
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "enable_prefix_caching": True,
            "block_size": 32,
            "max_model_len": 1024,
            "max_num_seqs": REQUESTS_IN_FLIGHT,
        },
        prepare_multimodal_stage={"enabled": True},
        chat_template_stage={"enabled": True},
        tokenize_stage={"enabled": True},
        detokenize_stage={"enabled": True},
    )
    processor = build_processor(config, preprocess=ask, postprocess=keep)
    paths = [{"path": str(path)} for path in sorted(Path(images).glob("*.tar"))]
    rows = ray.data.from_items(paths).flat_map(read_tar).materialize()
    # Blocks of the batch's size, so that batches finish one by one, as the engine's parts do.
    dataset = processor(rows.repartition(max(1, rows.count() // batch)).materialize())
    Path(out).mkdir(parents=True)
    finished: list[tuple[float, int]] = []
    for number, block in enumerate(
        dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    ):
        pq.write_table(pa.table(block), f"{out}/{number:05d}.parquet")
        finished.append((time.perf_counter(), len(block)))
    steady = finished[BATCHES_IN_FLIGHT - 1 : -BATCHES_IN_FLIGHT]
    return sum(count for _, count in steady[1:]) / (steady[-1][0] - steady[0][0])


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
