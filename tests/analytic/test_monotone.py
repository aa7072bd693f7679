"""More work is never predicted to take less time: one more prompt token, one more sequence, a longer answer."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import run_times
from llamalab.analytic.stack_constants import prepared
from llamalab.analytic.stacks import stack_names
from llamalab.analytic.workload import Workload
from llamalab.errors import UnavailableError
from llamalab.hardware import CPUS, HARDWARE
from llamalab.presets import PRESETS

DEVICES = HARDWARE | CPUS
MODELS = st.sampled_from(["7b", "70b", "tiny", "stories260k"])
WEIGHTS = st.sampled_from([None, "int4", "fp8", "q4_0"])
# Where kernels change: one row, the rows from which weights are unpacked first, chunks, and one-shot collectives.
TURNS = (*range(1, 6), 31, 32, 33, 64, 65, 127, 128, 129, 511, 512, 513, 514)
TOKENS = st.one_of(st.integers(1, 70), st.integers(505, 520), st.integers(1, 9000))


def seconds(work: Workload, device: str, stack: str | None, model: str) -> float | None:
    """The prompt's time, or None where there is no prediction."""
    spec = DEVICES[device]
    try:
        if stack is None:
            constants = choose(spec, "shipped", work.dtype, work.weight_dtype)
        else:
            work, constants = prepared(spec, work, stack)  # type: ignore[assignment]
    except UnavailableError:
        return None
    if work.tensor_parallel > 1 and "collective" not in constants.rates:
        return None
    return run_times(PRESETS[model].arch, work, constants.rates, constants.host).total_s


@settings(max_examples=120, deadline=None)
@given(
    TOKENS, st.sampled_from(sorted(DEVICES)), st.sampled_from([None, *stack_names()]), MODELS, WEIGHTS,
    st.sampled_from([None, 1, 2, 3, 64, 512]), st.sampled_from([1, 2, 16]), st.sampled_from([1, 2]),
)  # fmt: skip
@example(505, "xeon-spr-m7i.8xlarge", "transformers", "7b", None, 2, 1, 1)
def test_one_more_prompt_token_is_not_faster(prompt, device, stack, model, weight, chunk, batch, ranks) -> None:  # type: ignore[no-untyped-def]
    work = Workload(prompt, 1, batch, "fp16", weight, chunk=chunk, tensor_parallel=ranks)
    shorter = seconds(work, device, stack, model)
    longer = seconds(work._replace(prompt=prompt + 1), device, stack, model)
    if shorter is not None and longer is not None:
        assert longer >= shorter * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    TOKENS, st.sampled_from(sorted(DEVICES)), st.sampled_from([None, *stack_names()]), MODELS, WEIGHTS,
    st.sampled_from([1, 2, 8, 32, 128]), st.sampled_from([1, 2, 31, 32, 33, 64]), st.sampled_from([1, 2]),
)  # fmt: skip
def test_one_more_sequence_is_not_faster(prompt, device, stack, model, weight, generate, batch, ranks) -> None:  # type: ignore[no-untyped-def]
    work = Workload(prompt, generate, batch, "fp16", weight, tensor_parallel=ranks)
    fewer = seconds(work, device, stack, model)
    for more in (batch + 1, 2 * batch):
        longer = seconds(work._replace(batch=more), device, stack, model)
        if fewer is not None and longer is not None:
            assert longer >= fewer * (1 - 1e-9)


def test_two_sequences_in_four_bits_are_not_faster_than_one() -> None:
    """Few rows have kernels of their own, which reach more of the memory than one row's do."""
    one, two = (
        seconds(Workload(8, 128, batch, "fp16", "q4_k_m"), "rtxa5000-24gb", "mlc", "70b") or 0.0 for batch in (1, 2)
    )
    assert two >= one > 0


@settings(max_examples=30, deadline=None)
@given(TOKENS, st.integers(1, 300), st.sampled_from(sorted(DEVICES)), st.sampled_from([None, *stack_names()]))
def test_one_more_generated_token_is_not_faster(prompt: int, generate: int, device: str, stack: str | None) -> None:
    shorter = seconds(Workload(prompt, generate, 1, "fp16"), device, stack, "7b")
    longer = seconds(Workload(prompt, generate + 1, 1, "fp16"), device, stack, "7b")
    if shorter is not None and longer is not None:
        assert longer >= shorter


def test_every_prompt_up_to_the_changes_of_kernels() -> None:
    for device, stack in (("h100-80gb-sxm", None), ("a100-80gb-sxm", "vllm"), ("rtx4090-24gb", "llama.cpp")):
        times = [seconds(Workload(tokens, 1, 1, "fp16"), device, stack, "7b") or 0.0 for tokens in TURNS]
        assert times == sorted(times)
