"""The answer of `llamalab fit` for a model with its first layers on a host: the bytes there, and the added time."""

from llamalab.analytic.fit_run import FitRun, prompt_and_chunk
from llamalab.analytic.forecast import Times, run_times
from llamalab.analytic.offload import host_bytes
from llamalab.analytic.stack_constants import prepared
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.formatting import format_bytes, format_seconds
from llamalab.hardware import HardwareSpec
from llamalab.startup.hints import Any, NamedTuple

STACK = "llama.cpp"  # the one that splits so


class HostSplit(NamedTuple):
    """Figures and lines added to those of a run that fits."""

    data: dict[str, Any]
    lead: tuple[str, ...]


def split_of(model: str, run: FitRun, hardware: str | None, host: str | None) -> HostSplit:
    """The split of a run; times only where both device and host are named."""
    here, layers = run.gpu_layers or 0, run.arch.n_layers
    data: dict[str, Any] = {
        "gpu_layers": here,
        "n_gpu_layers": here + (here > 0),  # llama.cpp's, which counts the head
        "host_bytes": host_bytes(run),
        "prefill_s": None,
        "decode_s_per_token": None,
        "all_on_device_s_per_token": None,
        "reason": None,
    }
    lead = (
        f"  {here} of {layers} layers of {model} on the device, {format_bytes(data['host_bytes'])} on its host: "
        f"llama.cpp's --n-gpu-layers {data['n_gpu_layers']}"
    )
    if hardware is None or host is None:
        data["reason"] = "--hardware and --host must name a device and its CPU to predict the time"
        return HostSplit(data, (lead,))
    from llamalab.cli.devices import one_device

    device, cpu = one_device(hardware), one_device(host)
    data |= host_split_times(run, device, cpu)
    where = (
        f"  prefill {format_seconds(data['prefill_s'])}, then {format_seconds(data['decode_s_per_token'])} per token"
    )
    alone = format_seconds(data["all_on_device_s_per_token"])
    return HostSplit(
        data, (lead, f"{where} with {cpu.name}; {alone} with every layer on the device (predicted, {STACK})")
    )


def host_split_times(run: FitRun, device: HardwareSpec, host: HardwareSpec) -> dict[str, float]:
    """Seconds of the prompt and of a token, layers of host and device one after the other.

    The activations that cross between the two are not counted: one row of the residual stream a token and way.
    """
    here, every = run.gpu_layers or 0, run.arch.n_layers
    whole_device = _times(run, run.arch, device)
    if here == every:
        took = [whole_device]
    elif here == 0:
        took = [_times(run, run.arch, host)]
    else:  # the head runs on the device; the host has layers alone
        last = run.arch.replace(n_layers=here)
        took = [_times(run, last, device), _less(_times(run, run.arch, host), _times(run, last, host))]
    return {
        "prefill_s": sum(one.prefill_s for one in took),
        "decode_s_per_token": sum(one.decode_s_per_token or 0.0 for one in took),
        "all_on_device_s_per_token": whole_device.decode_s_per_token or 0.0,
    }


def _less(all_: Times, rest: Times) -> Times:
    decode = (all_.decode_s_per_token or 0.0) - (rest.decode_s_per_token or 0.0)
    return all_._replace(prefill_s=all_.prefill_s - rest.prefill_s, decode_s_per_token=decode)


def _times(run: FitRun, arch: LlamaArch, spec: HardwareSpec) -> Times:
    prompt, chunk = prompt_and_chunk(run)
    work = Workload(
        prompt=prompt,
        generate=max(2, run.context - prompt),
        batch=run.batch,
        dtype=run.dtype,
        weight_dtype=run.weight_dtype,
        kv_dtype=None if run.kv_dtype == run.dtype else run.kv_dtype,
        chunk=run.chunk and chunk,
    )
    done, constants = prepared(spec, work, STACK)
    return run_times(arch, done, constants.rates, constants.host)
