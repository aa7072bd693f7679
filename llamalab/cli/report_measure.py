"""The measurement of `llamalab report`: the record first, then a missing calibration."""

import argparse
from dataclasses import replace
from pathlib import Path

from llamalab.analytic.params import SMALL_MODEL_BYTES, weight_bytes
from llamalab.cli.find_model import is_checkpoint, model_to_measure
from llamalab.cli.output import note
from llamalab.cli.progress import Progress
from llamalab.cli.report_files import check_page, default_page, keep_record
from llamalab.cli.report_pages import show_kept
from llamalab.files.inputs import check_exists
from llamalab.measure.timing.deadline import Deadline, part_of

_SECONDS = {"small": 14.0, "large": 100.0}  # of measuring and calibrating; loading torch and rendering come on top
MEASURED_SHARE = 0.8  # of the time, where a calibration follows


def measure_and_show(args: argparse.Namespace) -> int:
    """Measure and write the record, then calibrate and draw: an error there does not lose the measurement."""
    if args.out is not None:
        check_page(Path(args.out))
    if args.tokenizer is not None:
        check_exists(args.tokenizer, "tokenizer")
    if (args.text is not None or args.tokenizer is not None) and not is_checkpoint(args.model):
        from llamalab.records.patterns import sentence_without_weights

        raise sentence_without_weights()
    name, arch, weights = model_to_measure(args.model)
    device = _resolved(args.device)
    page = Path(args.out or default_page(name, device))
    check_page(page)
    from llamalab.measure.calibration import constants_here
    from llamalab.measure.device.machine import resolve_device
    from llamalab.measure.report.patterns import read_sentence
    from llamalab.measure.report.run import measure_report

    read = read_sentence(args.model, weights, args.text, args.tokenizer)
    deadline = Deadline(_SECONDS["small" if weight_bytes(arch, args.dtype) < SMALL_MODEL_BYTES else "large"])
    place = resolve_device(device)
    # Stored constants are those of a process with all processors; a rank has its share of them.
    alone = getattr(args, "team", None) is None
    constants = constants_here.kept_constants(place, args.dtype, args.weight_dtype) if alone else None
    share = 1.0 if constants else MEASURED_SHARE

    with Progress(deadline) as progress:
        measured = measure_report(
            name,
            arch,
            device=device,
            dtype=args.dtype,
            full=args.full,
            prompt_tokens=args.prompt,
            batch=args.batch,
            generate=args.generate,
            context_tokens=args.context,
            weights=weights,
            read=read,
            weight_dtype=args.weight_dtype,
            kv_dtype=args.kv_dtype,
            attention=args.attention,
            deadline=deadline.part(share),
            team=getattr(args, "team", None),
            progress=part_of(progress, 0.0, share),
        )
        record = replace(measured, constants=constants)
        kept = keep_record(record, page)
        if constants is None:
            try:
                constants = constants_here.short_calibration(
                    place,
                    args.dtype,
                    weight_bytes=weight_bytes(arch, args.dtype),
                    deadline=deadline,
                    kept=measured.kept,
                    progress=part_of(progress, share, 1.0, "calibration, "),
                )
            except Exception as error:
                note(f"the calibration failed ({type(error).__name__}: {error})")
            except BaseException:
                note(f"the record is kept as {kept}")
                raise
            if constants is not None:
                record = replace(measured, constants=constants)
                kept = keep_record(record, page)
    return show_kept(record, args, kept)


def _resolved(device: str) -> str:
    if device != "auto":
        return device
    from llamalab.measure.device.machine import resolve_device

    return resolve_device(device).type
