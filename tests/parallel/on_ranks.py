"""One group of ranks, started once, in which many checks run; what they find goes to a file as JSON.

`python -m tests.parallel.on_ranks RANK RANKS FOLDER` is one rank; all meet over a file of the folder.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tied_embeddings": True},
    "biases": {"qkv_bias": True, "o_bias": True, "ffn_bias": True, "qk_norm": True},
}
CASES = {"MHA": (8, {}), "GQA": (4, {}), "MQA": (1, {})} | {kind: (2, more) for kind, more in KINDS.items()}


def results(ranks: int, folder: Path) -> dict[str, Any]:
    """What the checks found on that many ranks."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen([sys.executable, "-m", __name__, str(rank), str(ranks), str(folder)], env=environment)
        for rank in range(ranks)
    ]
    try:
        codes = [run.wait(timeout=300) for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert codes == [0] * ranks
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def main(rank: int, ranks: int, folder: Path) -> None:
    import torch.distributed as dist

    from tests.parallel.checks import check_all

    store = dist.FileStore(str(folder / "store"), ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    found = check_all(dist.init_device_mesh("cpu", (ranks,)), folder)
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
