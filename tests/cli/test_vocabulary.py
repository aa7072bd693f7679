"""The matrix of verbs and options: one word for one thing, old words with a note, and no option without an effect."""

import argparse
import inspect
import re
from collections.abc import Iterator
from importlib import import_module

import pytest

from llamalab.cli import VERBS, verb_parser
from llamalab.cli.options_of import Option, every_option, options_of
from tests.cli.calls import Capture, loaded, printed, refused

# One name for each thing that several verbs have; an option of these things under another name is a mistake.
THINGS = {
    "--model": r"model|checkpoint|weights-path|preset",
    "--prompt": r"prompt|seq|input-len",
    "--generate": r"generate|max-new-tokens|max-tokens|output-len|n-predict",
    "--context": r"context|seq|ctx|max-seq-len|length",
    "--depth": r"depth|past",
    "--batch": r"batch|batch-size|sequences|concurrency",
    "--tensor-parallel": r"tensor-parallel|tp|ranks|devices|gpus",
    "--pipeline-parallel": r"pipeline-parallel|pp|stages",
    "--context-parallel": r"context-parallel|cp|sequence-parallel",
    "--replicas": r"replicas|copies",
    "--dtype": r"dtype|precision",
    "--weight-dtype": r"weight-dtype|quant.*",
    "--kv-dtype": r"kv-dtype|cache-type|cache-dtype",
    "--attention": r"attention|backend|attn",
    "--device": r"device",
    "--hardware": r"hardware|gpu",
    "--format": r"format|json|csv",
    "--out": r"out|output",
    "--text": r"text",
}
# The short names that servers use.
ALSO = {"--tensor-parallel": {"--tp"}, "--pipeline-parallel": {"--pp"}, "--context-parallel": {"--cp"}}
# Other things of like names: devices however they are split, and processes that share no model.
OTHERS = {("plan", "--devices"), ("calibrate", "--ranks")}
OLD = {
    "kv": {"--seq": "--context"},
    "flops": {},
    "fit": {"--seq": "--context"},
    "taps": {"--seq": "--prompt"},
    "train-memory": {"--seq": "--context"},
    "tune": {"--seq": "--context"},
    "predict": {"--seq": "--prompt"},
    "roofline": {"--seq": "--prompt"},
    "compare-hardware": {"--seq": "--prompt"},
    "attention": {"--seq": "--context", "--backend": "--attention"},
    "generate": {
        "--checkpoint": "--model", "--prompt": "--text", "--prompts-file": "--text-file",
        "--max-new-tokens": "--generate",
    },
    "chat": {"--checkpoint": "--model", "--max-new-tokens": "--generate"},
}  # fmt: skip


def named_options() -> Iterator[tuple[str, Option]]:
    for verb, options in every_option().items():
        for option in options:
            if option.names:
                yield verb, option


def test_a_thing_has_one_name_on_every_verb() -> None:
    second = []
    for verb, option in named_options():
        longs = {name for name in option.names if name.startswith("--")}
        for name in longs:
            meant = {thing for thing, names in THINGS.items() if re.fullmatch(names, name[2:])}
            allowed = {thing for thing in meant if name == thing or name in ALSO.get(thing, ())}
            if meant and not allowed and (verb, name) not in OTHERS:
                second.append(f"{verb} {name}: {' or '.join(sorted(meant))}")
        own = longs - set().union(*ALSO.values())
        if len(own) > 1:
            second.append(f"{verb} has {' and '.join(sorted(own))} for one thing")
    assert second == []


WORDS = (
    "--model", "--prompt", "--generate", "--context", "--batch", "--dtype", "--weight-dtype", "--kv-dtype",
    "--tensor-parallel", "--attention", "--device", "--hardware", "--format", "--out",
)  # fmt: skip
_RUN = ("--prompt", "--generate", "--context", "--batch")
_NUMBERS = ("--dtype", "--weight-dtype", "--kv-dtype")
_PLACES = ("--device", "--hardware")
# Which words a verb has not, and why none of them could mean anything there.
ABSENT: dict[str, dict[tuple[str, ...], str]] = {
    "kv": {("--attention",): "no algorithm changes what is kept", _PLACES: "counts bytes, which no device changes"},
    "params": {
        (*_RUN, "--kv-dtype", "--attention"): "weights depend on no run",
        _PLACES: "counts bytes, which no device changes",
    },
    "flops": {("--generate",): "counts one pass, not a run", _PLACES: "counts work, which no device changes"},
    "fit": {("--device",): "calculates; this machine is --hardware this"},
    "models": {
        ("--model", *_RUN, "--weight-dtype", "--kv-dtype", "--tensor-parallel", "--attention", *_PLACES):
            "lists all presets, by the bytes of their weights",
    },
    "diff-arch": {
        ("--model",): "takes two models, ONE and OTHER", ("--generate", "--context"): "a prompt and the token after it",
        ("--tensor-parallel",): "holds two whole models against each other",
        ("--device",): "calculates; this machine is --hardware this",
    },
    "hardware": {
        ("--model", *_RUN, *_NUMBERS, "--tensor-parallel", "--attention", "--device"): "shows data sheets, of no model",
    },
    "train": {
        ("--prompt", "--generate"): "a sequence is read whole, none is made",
        ("--weight-dtype", "--kv-dtype"): "trains in --dtype, without a cache",
        ("--tensor-parallel",): "trains small models on one device", ("--attention",): "trains with torch's own",
        ("--hardware",): "trains here",
    },
    "generate": {
        ("--prompt", "--context", "--batch"): "as long and as many as the texts of --text and --text-file",
        ("--hardware",): "runs here",
    },
    "chat": {
        ("--prompt", "--context", "--batch"): "one dialogue, as long as it gets", ("--hardware",): "runs here",
        ("--tensor-parallel",): "one process has the keyboard",
        ("--format", "--out"): "prints text as it is made; a shell redirects it",
    },
    "tokenizer": {
        (*_RUN, *_NUMBERS, "--tensor-parallel", "--attention", *_PLACES): "reads texts, runs no model",
        ("--format",): "prints ids, or text, for a pipe", ("--out",): "of train it is the second place; else a pipe",
    },
    "inspect": {
        (*_RUN, *_NUMBERS, "--tensor-parallel", "--attention", *_PLACES): "tells what is stored, runs nothing",
    },
    "convert": {
        (*_RUN, "--weight-dtype", "--kv-dtype", "--tensor-parallel", "--attention", *_PLACES):
            "stores weights in --dtype, runs nothing",
        ("--format",): "the formats are checkpoints', named by --to",
    },
    "attention": {
        ("--model",): "attends at --heads and --head-dim of any model", ("--prompt", "--generate"): "one call",
        ("--weight-dtype",): "has no weights", ("--kv-dtype",): "backends are called on tensors of one dtype",
        ("--tensor-parallel",): "one rank's call is that of fewer --heads",
        ("--hardware",): "measures here",
    },
    "taps": {
        ("--generate",): "of one pass", ("--weight-dtype", "--kv-dtype"): "tells sizes of activations",
        ("--tensor-parallel",): "tells the whole model's points", ("--attention",): "points are those of every backend",
        _PLACES: "tells sizes, which no device changes",
    },
    "tour": {
        _RUN: "as long as --text", ("--weight-dtype", "--kv-dtype"): "shows values as the checkpoint has them",
        ("--tensor-parallel",): "shows one process", ("--attention",): "shows scores, which only naive keeps",
        ("--hardware",): "runs here",
    },
    "bench": {("--hardware",): "measures here"},
    "profile": {("--generate",): "decodes one token, at --context", ("--hardware",): "measures here"},
    "gallery": {
        ("--model", *_RUN, *_NUMBERS, "--tensor-parallel", "--attention", *_PLACES, "--format"):
            "one page of the records in a folder, each with its own run",
    },
    "doctor": {
        ("--model", *_RUN, *_NUMBERS, "--tensor-parallel", "--attention", *_PLACES): "looks at what is installed",
    },
    "calibrate": {
        ("--model", *_RUN, "--kv-dtype", "--attention"): "fits constants for every model and run",
        ("--tensor-parallel",): "its --ranks work side by side on no common model", ("--hardware",): "measures here",
    },
    "predict": {("--device",): "calculates; this machine is --hardware this"},
    "roofline": {("--device",): "calculates; this machine is --hardware this"},
    "compare-hardware": {("--device",): "calculates; this machine is --hardware this"},
    "plan": {
        ("--tensor-parallel",): "looks for it, among --devices", ("--device",): "calculates for --hardware",
    },
    "score": {
        ("--model", *_RUN, *_NUMBERS, "--tensor-parallel", "--attention", *_PLACES): "as each row of the file tells",
    },
    "train-memory": {
        ("--prompt", "--generate"): "a sequence is read whole, none is made",
        ("--weight-dtype", "--kv-dtype"): "a step of AdamW in --dtype, without a cache",
        ("--device",): "calculates for --hardware",
    },
    "tune": {
        ("--prompt", "--generate"): "a sequence is read whole, none is made",
        ("--weight-dtype",): "frozen weights are as --method says", ("--kv-dtype",): "trains without a cache",
        ("--device",): "calculates for --hardware",
    },
    "compare": {("--device",): "reads files and predicts; it measures nothing"},
    "completion": {WORDS: "prints a script for a shell"},
    "man": {WORDS: "prints the manual page"},
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_every_word_or_a_reason_why_not(verb: str) -> None:
    has = {name for option in options_of(verb) for name in option.names} & set(WORDS)
    absent = {word for words in ABSENT.get(verb, {}) for word in words}
    assert absent.isdisjoint(has), "the table says that it has none"
    assert has | absent == set(WORDS)


# Which verbs take one --dtype where the calculators take several, and why.
ONE_DTYPE = {
    **dict.fromkeys(("bench", "profile", "report"), "builds one model and measures it"),
    **dict.fromkeys(("generate", "chat", "tour"), "loads one model"),
    "train": "trains one model",
    "convert": "writes one file",
    "calibrate": "fits and keeps the constants of one dtype",
    "compare": "what files do not tell, of all of them",
}


@pytest.mark.parametrize("verb", [verb for verb, option in named_options() if "--dtype" in option.names])
def test_a_verb_takes_several_dtypes_or_there_is_a_reason(verb: str) -> None:
    actions = verb_parser(verb)[1]._actions
    (reader,) = (action.type for action in actions if "--dtype" in action.option_strings)
    assert callable(reader)
    if verb in ONE_DTYPE:
        with pytest.raises(argparse.ArgumentTypeError, match="--dtype must be one of"):
            reader("fp32,fp16")
    else:
        (metavar,) = (action.metavar for action in actions if "--dtype" in action.option_strings)
        assert reader(str(metavar).replace("|", ",")) == str(metavar).split("|")


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_into_80_columns(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = verb_parser(verb)[1].format_help().splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_the_matrix_sees_a_second_name() -> None:
    assert any(re.fullmatch(names, "checkpoint") for names in THINGS.values())
    assert not re.fullmatch(THINGS["--prompt"], "prompts-file")


@pytest.mark.parametrize("verb", VERBS)
def test_old_names_are_understood(verb: str) -> None:
    _, parser = verb_parser(verb)
    assert parser.renamed == OLD.get(verb, {})
    assert set(parser.renamed.values()) <= set(parser.options)


def test_an_old_name_gives_the_same_answer_and_a_note(capsys: Capture) -> None:
    new = printed(capsys, "kv", "--context", "512")
    assert printed(capsys, "kv", "--seq", "512") == new == printed(capsys, "kv", "--seq=512")
    from llamalab.cli import main

    assert main(["kv", "--seq", "512"]) == 0
    assert capsys.readouterr().err == "note: --seq is called --context now\n"
    assert main(["flops", "--phase", "decode", "--seq", "512"]) == 0
    assert "note: --seq is called --context now" in capsys.readouterr().err
    assert main(["flops", "--seq", "512"]) == 0
    assert "note: --seq is called --prompt now" in capsys.readouterr().err


def test_an_error_names_the_option_as_it_was_written(capsys: Capture) -> None:
    assert refused(capsys, "kv", "--seq", "4q").startswith("--seq must be a whole number")
    assert refused(capsys, "kv", "--context", "4q").startswith("--context must be a whole number")


# What changes an answer, for every option of the verbs that calculate; beside it, what the option needs to be given.
CHANGES: dict[str, dict[str, tuple[str, ...]]] = {
    "kv": {
        "--model": ("70b",), "--kv-heads": ("8",), "--context": ("512",), "--batch": ("3",), "--dtype": ("fp32",),
        "--weight-dtype": ("int4",), "--kv-dtype": ("int8",), "--prompt": ("512",), "--generate": ("128",),
        "--tensor-parallel": ("2",),
    },
    "params": {
        "--weight-dtype": ("int4",), "--tensor-parallel": ("2",), "--model": ("70b",), "--kv-heads": ("8",),
        "--dtype": ("fp32",), "--lora": ("r=4,targets=q",),
    },
    "flops": {
        "--phase": ("decode",), "--prompt": ("7",), "--context": ("512",), "--batch": ("2",), "--attention": ("naive",),
        "--logits": ("all",), "--model": ("13b",), "--kv-heads": ("8",), "--dtype": ("fp32",),
        "--weight-dtype": ("int4",), "--kv-dtype": ("int8",), "--tensor-parallel": ("2",),
    },
    "models": {"--dtype": ("fp32",)},
    "hardware": {"name": ("l4",), "--hardware": ("l4",)},
    "taps": {
        "--model": ("70b",), "--prompt": ("7", "--model", "7b"), "--context": ("700", "--model", "7b"),
        "--batch": ("2", "--model", "7b"), "--dtype": ("fp32", "--model", "7b"),
    },
    "predict": {
        "--model": ("13b",), "--hardware": ("a100",), "--prompt": ("77",), "--generate": ("7",), "--batch": ("2",),
        "--context": ("4096",),
        "--tensor-parallel": ("2",), "--dtype": ("fp16",), "--weight-dtype": ("fp8",), "--kv-dtype": ("fp8",),
        "--attention": ("naive",), "--logits": ("all",), "--unfused": (), "--fused": ("--unfused",),
        "--chunk": ("64",), "--basis": ("bound",), "--stack": ("vllm",),
        "--expert-parallel": ("--model", "mixtral-8x7b", "--tp", "2"),
        "--constants": ("absent.json", "--basis", "calibrated"), "--threads": ("4", "--hardware", "ryzen-7950x"),
        "--pipeline-parallel": ("2",), "--context-parallel": ("2",), "--replicas": ("2", "--batch", "2"),
    },
}  # fmt: skip
SHOWN = {"--format", "--out", "--verbose", "--help"}  # they change how an answer looks; their tests are elsewhere
WITHOUT: dict[str, tuple[str, ...]] = {"taps --prompt": ("--model", "7b"), "taps --context": ("--model", "7b"),
           "taps --batch": ("--model", "7b"), "taps --dtype": ("--model", "7b"),
           "predict --threads": ("--hardware", "ryzen-7950x")}  # fmt: skip


def calculator_cases() -> list[tuple[str, str]]:
    return [
        (verb, option.names[-1] if option.names else option.dest)
        for verb in CHANGES
        for option in options_of(verb)
        if not SHOWN & set(option.names)
    ]


@pytest.mark.parametrize(("verb", "option"), calculator_cases())
def test_no_option_of_a_calculator_is_silently_ignored(capsys: Capture, verb: str, option: str) -> None:
    assert option in CHANGES[verb], f"{verb} {option} needs a value that changes the answer in CHANGES"
    words = CHANGES[verb][option]
    argv = (verb, *words) if not option.startswith("-") else (verb, option, *words)
    from llamalab.cli import main

    code = main([*argv, "--format", "json"])
    with_option = capsys.readouterr().out
    if code == 0:
        assert with_option != printed(capsys, verb, *WITHOUT.get(f"{verb} {option}", ()), "--format", "json")
    else:
        assert code in (2, 3)


def sources(verb: str) -> str:
    """The module of a verb and what of ours it shares with others."""
    module = import_module(f"llamalab.cli.{verb.replace('-', '_')}")
    shared = ("arguments", "runs", "lengths", "combinations", "text_options", "delivery", "report_files",
              "fit_answer", "report_measure", "packing")  # fmt: skip
    return "".join(inspect.getsource(one) for one in (module, *(import_module(f"llamalab.cli.{s}") for s in shared)))


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_read_somewhere(verb: str) -> None:
    text = sources(verb)
    _, parser = verb_parser(verb)
    dests = {action.dest for action in parser._actions} - {"help"}
    assert {dest for dest in dests if not re.search(rf"\bargs\.{dest}\b|\"{dest}\"", text)} == set()


def verbs_that_write_answers() -> list[str]:
    named = {verb: {name for option in options for name in option.names} for verb, options in every_option().items()}
    return [verb for verb, names in named.items() if {"--out", "--format"} <= names]


@pytest.mark.parametrize("verb", verbs_that_write_answers())
def test_an_answer_goes_where_out_says(verb: str) -> None:
    """Where --out of calibrate is its constants file, that of report its page, and bench writes row by row."""
    module = import_module(f"llamalab.cli.{verb.replace('-', '_')}")
    printed = not hasattr(module, "run") or "give(" in inspect.getsource(module)
    assert printed or verb in ("calibrate", "bench", "report")


@pytest.mark.parametrize(
    ("words", "source", "target"),
    [
        ("IN --to hf OUT", "IN", "OUT"),
        ("--to hf IN OUT", "IN", "OUT"),
        ("OUT --to hf --model IN", "OUT", None),
        ("--model IN --to hf OUT", "OUT", None),
    ],
)
def test_an_option_between_places_ends_none_of_them(words: str, source: str, target: str | None) -> None:
    args = verb_parser("convert")[1].read(words.split())
    assert (args.source, args.target) == (source, target)
    read = verb_parser("tokenizer")[1].read(["encode", "--model", "a", "Once upon"])
    assert (read.action, read.file, read.model) == ("encode", "Once upon", "a")


def test_options_that_contradict_each_other_are_refused(capsys: Capture) -> None:
    assert "must be 1" in refused(capsys, "flops", "--phase", "decode", "--prompt", "7", "--context", "512")
    assert "both were given" in refused(capsys, "flops", "--phase", "decode", "--seq", "7", "--context", "512")
    assert "must come with --model" in refused(capsys, "taps", "--prompt", "7")
    assert "must not be given together" in refused(capsys, "bench", "--depth", "7", "--context", "9")
    assert "must name one record" in refused(capsys, "report", "--from", "a.json", "--from", "b.json")


@pytest.mark.parametrize("name", ["bfloat16", "torch.bfloat16", "BF16"])
def test_dtypes_go_by_the_names_of_torch(capsys: Capture, name: str) -> None:
    assert loaded(capsys, "kv", "--dtype", name) == loaded(capsys, "kv", "--dtype", "bf16")
    assert loaded(capsys, "kv", "--kv-dtype", "float16")["dtype"] == "fp16"


def test_sweeps_are_spelled_alike(capsys: Capture) -> None:
    rows = loaded(capsys, "kv", "--context", "512-4096*2", "--batch", "1,4")["rows"]
    assert [(row["context"], row["batch"]) for row in rows] == [
        (seq, batch) for batch in (1, 4) for seq in (512, 1024, 2048, 4096)
    ]
    assert all(row["kv_bytes"] == 2**19 * row["context"] * row["batch"] for row in rows)
    assert loaded(capsys, "kv", "--context", "4,096") == loaded(capsys, "kv", "--context", "4096")


SEVERAL_FORMATS = (
    (("kv",), "kv_dtype", "kv_bytes"),
    (("params",), "weight_dtype", "weight_bytes"),
    (("flops",), "weight_dtype", "bytes"),
    (("fit", "--memory", "80GiB", "--context", "512"), "weight_dtype", "left_bytes"),
    (("train-memory",), "dtype", "total_bytes"),
    (("predict",), "weight_dtype", "decode_s_per_token"),
    (("roofline",), "weight_dtype", "decode_s"),
    (("taps", "--model", "7b"), "dtype", "total_bytes"),
    (("diff-arch", "7b", "13b"), "weight_dtype", "one_decode_s"),
)


@pytest.mark.parametrize(("argv", "option", "figure"), SEVERAL_FORMATS)
def test_several_formats_make_a_row_each(capsys: Capture, argv: tuple[str, ...], option: str, figure: str) -> None:
    """A row is what the same format gives by itself, in each of the sweeps' verbs."""
    flag, second = f"--{option.replace('_', '-')}", "fp32" if option == "dtype" else "int8"
    rows = loaded(capsys, *argv, flag, f"bfloat16,{second}")["rows"]
    assert [row[option] for row in rows] == ["bf16", second]
    alone = loaded(capsys, *argv, flag, f"{second},{second}")["rows"]
    assert rows[1][figure] == alone[0][figure] == alone[1][figure] != rows[0][figure]
    assert re.search(rf"\b{second}\b", printed(capsys, *argv, flag, f"bf16,{second}"))


def test_a_sweep_of_passes_has_a_row_each(capsys: Capture) -> None:
    rows = loaded(capsys, "flops", "--prompt", "128-512*2", "--batch", "1,2")["rows"]
    assert [(row["new_tokens"], row["batch"]) for row in rows] == [(p, b) for p in (128, 256, 512) for b in (1, 2)]
    single = loaded(capsys, "flops", "--prompt", "256", "--batch", "2")
    assert rows[3]["flops_causal"] == single["flops_causal"]
    assert rows[3]["bytes"] == single["bytes"]
    decode = loaded(capsys, "flops", "--phase", "decode", "--context", "512,1024")["rows"]
    assert [row["context_tokens"] for row in decode] == [512, 1024]


def test_a_name_of_several_devices_takes_the_common_one_and_says_so(capsys: Capture) -> None:
    from llamalab.cli import main

    assert main(["hardware", "h100"]) == 0
    out, err = capsys.readouterr()
    assert "NVIDIA H100 SXM5 80 GB" in out
    assert err.startswith("note: h100 is taken for h100-80gb-sxm, the common one")


@pytest.mark.parametrize(
    ("argv", "advice"),
    [
        (("kv", "--ctx-size", "4096"), "did you mean --context?"),
        (("kv", "--batch-size", "4"), "did you mean --batch?"),
        (("predict", "--depth", "4096"), "did you mean --context?"),
        (("predict", "--gpu", "h100"), "did you mean --hardware?"),
        (("predict", "--max-new-tokens", "4"), "did you mean --generate?"),
        (("kv", "--json"), "did you mean --format json?"),
        (("kv", "-c", "4096"), "did you mean --context?"),
        (("bench", "-ngl", "99"), "llamalab bench has no option -ngl; did you mean --device?"),
        (("predict", "--n-gpu-layers", "99"), "did you mean --hardware?"),
        (("bench", "--max-tokens", "99"), "did you mean --generate?"),
        (("generate", "--temp", "0"), "did you mean --temperature?"),
        (("bench", "-fa", "1"), "did you mean --attention?"),
        (("fit", "--vram", "24GiB"), "did you mean --memory?"),
        (("kv", "--lenght", "4"), "did you mean --context?"),
        (("convert", "a", "b", "--quantise", "q8_0"), "did you mean --dtype?"),
        (("tokenizer", "learn"), "action must be one of train, encode, decode, show; got 'learn'"),
        (("completion", "tcsh"), "did you mean zsh or fish?"),
        (("params", "--context", "4"), "see llamalab params --help"),
    ],
)
def test_advice_goes_by_meaning(capsys: Capture, argv: tuple[str, ...], advice: str) -> None:
    assert refused(capsys, *argv).endswith(advice)


def test_what_others_call_a_thing_is_no_name_of_ours() -> None:
    from llamalab.cli.meanings import MEANT, VERBS_MEANT

    ours = {name for _, option in named_options() for name in option.names}
    assert {name.partition(" ")[0] for meant in MEANT.values() for name in meant} <= ours
    assert set(VERBS_MEANT.values()) <= set(VERBS)
    assert set(VERBS_MEANT).isdisjoint(VERBS)
