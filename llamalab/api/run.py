"""The calls that run something: they measure this machine, or make text."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from llamalab.api.calculate import Counts, Model
from llamalab.api.calls import answered, called, parsed
from llamalab.api.results import Result
from llamalab.errors import InputError
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from llamalab.model import Transformer
    from llamalab.records.record import Record
    from llamalab.text import Tokenizer


def bench(
    model: "str | Sequence[str] | nn.Module" = "7b",
    *,
    prompt: Counts = 512,
    generate: Counts = 128,
    depth: Counts = 0,
    batch: Counts = 1,
    repetitions: int = 5,
    device: str = "auto",
    dtype: str = "bf16",
    attention: str | None = None,
    **others: object,
) -> Result:
    """Tokens per second of prompts and of generation on this machine, a row a test, with all times.

    Args:
        model: presets or paths; weights are a checkpoint's own, else random ones of the model's sizes. Or a
            Transformer, or a model of transformers or PEFT, which is run as it is, where it is and in its dtype.
        prompt: prompt tokens; 0 for no such test.
        generate: tokens made one by one; 0 for no such test.
        depth: tokens in the cache before.
        batch: sequences.
        repetitions: of each test, after a warm-up.
        device: auto, cpu or cuda.
        dtype: of weights, activations and cache.
        attention: a backend; the fastest of the device if None.
        others: further options of `llamalab bench`, by name.
    """
    if hasattr(model, "parameters"):
        return _bench_of(
            model,
            {"prompt": prompt, "generate": generate, "depth": depth, "batch": batch, "repetitions": repetitions},
            {"attention": attention, **others},
        )
    return answered(
        "bench",
        model=model,
        prompt=prompt,
        generate=generate,
        depth=depth,
        batch=batch,
        repetitions=repetitions,
        device=device,
        dtype=dtype,
        attention=attention,
        **others,
    )


def _bench_of(model: Any, sizes: dict[str, Any], refused: dict[str, object]) -> Result:
    """The bench of a model in memory. Raises InputError for options that such a model determines."""
    if chosen := [name for name, value in refused.items() if value is not None]:
        raise InputError(f"{', '.join(chosen)} must not be given with a model in memory, which is run as it is")
    from llamalab.cli.bench_output import bench_answer
    from llamalab.measure.bench.in_memory import measure_bench_of

    with called("bench"):
        module, args = parsed("bench", sizes)
        cases = module.cases_of(args)
    rows = list(measure_bench_of(model, cases, name=type(model).__name__, repetitions=args.repetitions))
    return Result("bench", bench_answer(rows))


def profile(model: Any = "7b", **options: Any) -> Result:
    """Time and memory of a pass, operation by operation.

    `model` is a preset, a path or an architecture, of which as many blocks as fit are measured; `options` are then
    those of `llamalab profile`: phase, prompt, batch, device, dtype, attention, full, roofs, trace, beside. It may also
    be a Transformer or a transformers LlamaForCausalLM in memory, measured as it is; `options` are then those of
    llamalab.measure.profile.run.measure_profile.

    Beside the figures, every attribute of the records.profile.Profile is there: `.phases`, `.roofs`, `.notes`.
    """
    from llamalab.cli.profile_output import profile_answer

    if not isinstance(model, Model):
        from llamalab.measure.profile.run import measure_profile

        found = measure_profile(model, **options)
        return Result("profile", profile_answer([found]), found)
    with called("profile") as notes:
        module, args = parsed("profile", {"model": model, **options})
        profiles, _ = module.measured(args)
    return Result("profile", profile_answer(profiles), profiles[0], notes=notes)


def measure(
    model: Model = "7b",
    *,
    prompt: int | None = None,
    generate: int | None = None,
    context: int | None = None,
    batch: int = 1,
    device: str = "auto",
    dtype: str = "bf16",
    weight_dtype: str | None = None,
    kv_dtype: str | None = None,
    attention: str | None = None,
    full: bool = False,
    text: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    progress: Callable[[str, float], None] = lambda label, done: None,
) -> Result:
    """Measure a model on this machine, prefill and decode, beside the prediction; no file is written.

    Args:
        model: a preset, a path or an architecture; weights are a checkpoint's own, else random.
        prompt: prompt tokens; what suits the device if None.
        generate: tokens after the prompt, of which the one in the middle is decoded; that after the prompt if None.
        context: tokens in view of the decoded one, itself included.
        batch: sequences.
        device: auto, cpu or cuda.
        dtype: of weights, activations and cache.
        weight_dtype: the storage of quantised matrices.
        kv_dtype: that of the KV cache.
        attention: a backend; the fastest of the device if None.
        full: run every block instead of a few.
        text: a sentence whose attention in a checkpoint is recorded (default: a short story).
        tokenizer: for that sentence (default: the checkpoint's own).
        progress: called with a label and the share that is done.

    Beside the figures, every attribute of the records.record.Record is there: `.passes`, `.roofs`, `.notes`.
    """
    from llamalab.cli.find_model import model_to_measure
    from llamalab.measure.report.patterns import read_sentence
    from llamalab.measure.report.run import measure_report

    with called("measure"):  # the notes of the record name the weights
        name, arch, weights = model_to_measure(model)
        record = measure_report(
            name,
            arch,
            device=device,
            dtype=dtype,
            full=full,
            prompt_tokens=prompt,
            batch=batch,
            generate=generate,
            context_tokens=context,
            weight_dtype=weight_dtype,
            kv_dtype=kv_dtype,
            attention=attention,
            weights=weights,
            read=read_sentence(model, weights, text, tokenizer),
            progress=progress,
        )
    return of_record(record)


def report(
    model: Model | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    record: "Record | str | None" = None,
    **options: Any,
) -> Result:
    """Measure this machine, or take a `record`, and write the page: predicted against measured.

    `out` is the HTML file, by default reports/<model>-<device>.html; `options` are those of llamalab.measure. The
    result has `.path` beside what llamalab.measure gives.
    """
    from llamalab.cli.report_files import check_page, default_page, write_report
    from llamalab.records.record import Record
    from llamalab.records.record_json import record_from_json, shown_text

    if isinstance(record, Record):
        found = record
    elif record is not None:
        found = record_from_json(shown_text(record, "record"), source=os.fspath(record))
    else:
        if out is not None:
            check_page(Path(out))
        found = measure("7b" if model is None else model, **options)._source  # type: ignore[assignment]
    page = Path(out or default_page(found.model, found.environment.device))
    check_page(page)
    write_report(found, page)
    result = of_record(found)
    result._answer.data["path"] = str(page)
    return result


def of_record(record: "Record") -> Result:
    """A record as a result: the verdict, a row an operation, and the times of both passes."""
    from llamalab.cli.report_answer import report_answer

    return Result("measure", report_answer(record), record)


def generate(
    model: "str | os.PathLike[str] | Transformer",
    text: str = "",
    *,
    generate: int = 256,
    tokenizer: "str | os.PathLike[str] | Tokenizer | None" = None,
    temperature: float = 0.6,
    top_p: float = 0.9,
    top_k: int | None = None,
    seed: int = 0,
    stop: Sequence[str] = (),
    dtype: str | None = None,
    device: str = "cpu",
) -> Result:
    """Continue a text with a checkpoint; the result has `.text`, and what it cost in tokens, KV cache and seconds.

    Args:
        model: the path of a checkpoint, or a model that llamalab.load gave.
        text: what to continue.
        generate: tokens to make at most.
        tokenizer: a tokenizer or its file; the checkpoint's own if None.
        temperature: 0 takes the likeliest token.
        top_p: draw from the likeliest tokens that together weigh so much.
        top_k: draw from so many of the likeliest.
        seed: of the draws.
        stop: texts before which it ends.
        dtype: of the weights; the checkpoint's own if None.
        device: cpu, cuda or cuda:N.
    """
    from llamalab.api.texts import continued

    return continued(
        model,
        text,
        most=generate,
        tokenizer=tokenizer,
        stop=stop,
        dtype=dtype,
        device=device,
        sampling={"temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed},
    )
