"""A training run on disk: the model as an ordinary checkpoint, and the state of the next step.

    RUN/step-00000200/config.json, model.safetensors, tokenizer ...   a Hugging Face folder
    RUN/step-00000200/optimizer.safetensors                           moments and masters, in fp32
    RUN/step-00000200/training.json, steps.json                       what it was begun with, the steps until here

The folder appears when it is whole; the one before it goes after that, so that there is always one to resume from.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llamalab.checkpoints import read
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.huggingface import write_huggingface
from llamalab.checkpoints.text_side import TextSource, config_ids, place_text
from llamalab.errors import FormatError, InputError
from llamalab.files.inputs import MOST_BYTES, read_object
from llamalab.files.outputs import new_outputs
from llamalab.model import Transformer
from llamalab.plain_text import sentence
from llamalab.train.trainer import Trainer

_STATE, _SETTINGS, _ROWS = "optimizer.safetensors", "training.json", "steps.json"
_STEP = re.compile(r"step-(\d{8})")
_MASTER = "master"


def steps_saved(run: Path) -> list[int]:
    """The steps after which checkpoints lie in a run's folder, in order."""
    found = run.iterdir() if run.is_dir() else ()
    return sorted(int(match[1]) for path in found if (match := _STEP.fullmatch(path.name)) and path.is_dir())


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint after a step lies."""
    return run / f"step-{step:08d}"


def save(run: Path, trainer: Trainer, text: TextSource, rows: Sequence[Mapping[str, object]] = ()) -> Path:
    """Write the checkpoint of a trainer of a Transformer and remove those before it; its folder.

    `rows` are the records of the steps taken, as plain values, which resume returns.

    Raises InputError where it exists, MissingError where it cannot be written.
    """
    assert isinstance(trainer.model, Transformer)
    target = checkpoint_path(run, trainer.done)
    with new_outputs([target]) as place:
        aside = place / target.name
        aside.mkdir()
        place_text(text, aside)
        write_huggingface(aside, weights_of(trainer.model), dtype=None, ids=config_ids(text))
        save_file(optimizer_tensors(trainer), aside / _STATE)
        (aside / _ROWS).write_text(json.dumps({"steps": list(rows)}) + "\n", encoding="utf-8")
        (aside / _SETTINGS).write_text(json.dumps(trainer_settings(trainer), indent=1) + "\n", encoding="utf-8")
    for step in steps_saved(run):
        if step < trainer.done:
            shutil.rmtree(checkpoint_path(run, step))
    return target


def trainer_settings(trainer: Trainer) -> dict[str, object]:
    """All settings that affect a next step's bits besides weights and state, with a digest of the text."""
    texts = [sha256(ids_N.cpu().numpy().tobytes()).hexdigest() for ids_N in trainer.stream]
    dtype = str(next(trainer.model.parameters()).dtype).removeprefix("torch.")
    return {"plan": trainer.plan._asdict(), "recipe": trainer.recipe._asdict(), "texts": texts, "dtype": dtype}


def resume(run: Path, trainer: Trainer, settings: dict[str, object] | None = None) -> list[dict[str, Any]]:
    """Put a new trainer of the same plan where the last checkpoint of a run is, to the bit; the rows of its steps.

    Raises FormatError where the checkpoint is not one of this model and optimiser, InputError where `settings`
    differ from those that it was begun with.
    """
    step = steps_saved(run)[-1]
    folder = checkpoint_path(run, step)
    if settings is not None:
        begun = read_object(folder / _SETTINGS, "settings of the run")
        if odd := [key for key in settings if settings[key] != begun.get(key)]:
            raise InputError(
                f"a run must go on as it was begun; {run} has another {' and '.join(odd)}; use the same options, or "
                "another folder"
            )
    _, weights = read(folder)
    trainer.model.load_state_dict(weights)
    try:
        _take(trainer, load_file(folder / _STATE))
    except (KeyError, SafetensorError, OSError, RuntimeError) as error:
        raise FormatError(
            f"{folder / _STATE} must be the state of this model's optimiser; {sentence(str(error))}; "
            "start the run anew in another folder"
        ) from None
    trainer.done = step
    rows = folder / _ROWS
    if not rows.exists():
        return []
    return list(read_object(rows, "steps of the run", most=MOST_BYTES).get("steps", ()))


def optimizer_tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    """All tensors of the state besides the weights, as `kind/name of the parameter`."""
    state = trainer.optimizer.state
    kept = {
        f"{kind}/{name}": value
        for name, parameter in trainer.masters.named.items()
        for kind, value in state[parameter].items()
    }
    copies = {f"{_MASTER}/{name}": master for name, master in trainer.masters.copies().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in (kept | copies).items()}


def _take(trainer: Trainer, tensors: dict[str, torch.Tensor]) -> None:
    trainer.masters.restore(
        {name.removeprefix(f"{_MASTER}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{_MASTER}/")}
    )
    for name, parameter in trainer.masters.named.items():
        own = {key.partition("/")[0]: value for key, value in tensors.items() if key.partition("/")[2] == name}
        own.pop(_MASTER, None)
        if any(value.dim() and value.shape != parameter.shape for value in own.values()) or not own:
            raise KeyError(f"there is no state of {name}")
        trainer.optimizer.state[parameter] = {kind: value.to(parameter.device) for kind, value in own.items()}
