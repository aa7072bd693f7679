"""Our prediction for a row measured by another tool or a bench, for the model and device that the file names."""

import re

from llamalab.analytic.constants import choose
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_times import pass_s
from llamalab.analytic.rate_constants import Constants
from llamalab.analytic.workload import Workload, pass_ops
from llamalab.arch import LlamaArch
from llamalab.errors import LlamaLabError
from llamalab.hardware import HARDWARE, HardwareSpec
from llamalab.presets import PRESETS, resolve_model
from llamalab.records.run import Run, RunPhase, of_one_pass
from llamalab.startup.hints import NamedTuple


class Beside(NamedTuple):
    """Predicted seconds of a phase, and their basis; None with the reason."""

    predicted_s: float | None
    basis: str


class Guess(NamedTuple):
    """Model, device and dtype of a file, with the options that replace what it does not state."""

    arch: LlamaArch | None = None
    spec: HardwareSpec | None = None
    dtype: str | None = None
    ranks: int = 1
    kv_dtype: str | None = None
    attention: str = "flash"


class GivenPass(NamedTuple):
    """The shape of a pass from options, for a file without shapes."""

    kind: str
    batch: int
    new_tokens: int
    context_tokens: int


def as_given(phase: RunPhase, given: GivenPass | None) -> RunPhase:
    """A phase whose file states no shape, with the shape from options."""
    if given is None or phase.kind != "other" or phase.context_tokens is not None or phase.calls is not None:
        return phase
    kind, batch, new, context = given
    return phase._replace(kind=kind, batch=batch, new_tokens=new, context_tokens=context)


def single_pass(phase: RunPhase, arch: LlamaArch | None) -> RunPhase:
    """A phase of a trace as one pass of the model, where the model is known and the trace holds whole passes."""
    blocks = phase.blocks or (arch.n_layers if arch else None)
    return of_one_pass(phase, blocks) if blocks and phase.calls else phase


def guessed(run: Run, given: Guess) -> Guess:
    """The model, device and dtype of a run: from options, else from the file."""
    return given._replace(
        arch=given.arch or _model_of(run.model),
        spec=given.spec or _device_of(run.device),
        dtype=given.dtype or run.dtype,
    )


def predicted_beside(phase: RunPhase, guess: Guess) -> Beside:
    """The prediction of one pass, of the blocks that ran."""
    if guess.arch is None:
        return Beside(None, "the model is not known; name it")
    if guess.spec is None:
        return Beside(None, "the device is not known; name it")
    if phase.kind == "other" and phase.calls is not None:
        return Beside(None, "it holds training, or passes of several shapes; mark a step around each pass")
    if phase.kind == "other" or phase.context_tokens is None or not phase.new_tokens:
        return Beside(None, "the file does not tell the shape of a single pass")
    if phase.calls is not None:
        needed = phase.blocks or guess.arch.n_layers
        return Beside(None, f"{phase.calls} calls of attention are no whole passes of {needed} blocks")
    dtype = guess.dtype or "fp16"
    weight_dtype = dtype if dtype in ("int8", "int4", "fp8") else None
    plain = "fp16" if weight_dtype else dtype
    work = Workload(
        prompt=1,
        generate=1,
        batch=phase.batch,
        dtype=plain,
        weight_dtype=weight_dtype,
        kv_dtype=guess.kv_dtype,
        attention=guess.attention,
        tensor_parallel=guess.ranks,
    )
    try:
        constants = _constants(guess.spec, work)
        new = phase.new_tokens
        arch = guess.arch.replace(n_layers=phase.blocks) if phase.blocks else guess.arch
        seconds = pass_s(pass_ops(arch, work, new, max(new, phase.context_tokens)), constants.rates)
    except LlamaLabError as error:
        return Beside(None, str(error))
    per_token = phase.batch * constants.host.sequence_s
    host_s = per_token + (constants.host.request_s if phase.kind == "prefill" else 0.0)
    return Beside(seconds + host_s, f"{guess.spec.name}, {dtype}, {constants.basis}")


def _constants(spec: HardwareSpec, work: Workload) -> Constants:
    return choose(spec, "calibrated" if spec.measured else "shipped", work.dtype, work.weight_dtype)


def _model_of(name: str | None) -> LlamaArch | None:
    """The preset of a name: ours, a hub's, or llama-bench's type with its count of parameters."""
    if not name:
        return None
    if counted := re.search(r"\((\d{6,})\)$", name):
        parameters = int(counted[1])
        near = {key: abs(parameter_count(one.arch) / parameters - 1) for key, one in PRESETS.items()}
        best = min(near, key=lambda key: near[key])
        return PRESETS[best].arch if near[best] < 0.001 else None
    try:
        return resolve_model(name)[1]
    except LlamaLabError:
        pass
    short = name.rpartition("/")[2].lower()
    sized = re.fullmatch(r"llama-2-(\d+b)(-chat)?(-hf)?", short)
    return PRESETS[sized[1]].arch if sized and sized[1] in PRESETS else None


def _device_of(name: str | None) -> HardwareSpec | None:
    """The row of the table whose driver's name is part of the file's device name."""
    if not name:
        return None
    if name in HARDWARE:
        return HARDWARE[name]
    wanted, known = name.strip().lower(), list(HARDWARE.values())
    exact = [spec for spec in known if wanted in map(str.lower, spec.device_names)]
    inside = [spec for spec in known if any(one.lower() in wanted for one in spec.device_names)]
    return max(exact or inside, key=lambda spec: max(map(len, spec.device_names)), default=None)
