"""Calls that calculate give what their commands print, as attributes, frames, drawings and HTML."""

import inspect
import json
from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

import llamalab
from llamalab.cli import verb_parser
from llamalab.errors import DoesNotFitError, InputError, LlamaLabError, UnknownNameError
from tests.cli.calls import Capture, loaded
from tools.api_page import FURTHER

CALLS: list[tuple[str, tuple[str, ...], dict[str, object], tuple[str, ...]]] = [
    ("kv", ("7b",), {"context": 512, "batch": 3}, ("--context", "512", "--batch", "3")),
    ("kv", ("70b",), {"context": [512, 1024]}, ("--model", "70b", "--context", "512,1024")),
    ("params", ("13b",), {"dtype": "int4"}, ("--model", "13b", "--dtype", "int4")),
    ("flops", ("7b",), {"phase": "decode", "context": 777}, ("--phase", "decode", "--context", "777")),
    ("flops", ("7b",), {"prompt": [128, 256]}, ("--prompt", "128,256")),
    ("fit", ("7b",), {"memory": "24GiB", "context": 512}, ("--memory", "24GiB", "--context", "512")),
    ("fit", ("7b", "l4"), {"context": 512}, ("--hardware", "l4", "--context", "512")),
    ("predict", ("7b", "h200"), {"prompt": 512, "generate": 7}, ("--prompt", "512", "--generate", "7")),
    ("predict", ("7b", "l4,h200"), {"batch": "1-4*2"}, ("--hardware", "l4,h200", "--batch", "1-4*2")),
    ("roofline", ("7b", "l4"), {"prompt": 99}, ("--hardware", "l4", "--prompt", "99")),
    (
        "tune",
        ("13b",),
        {"method": "lora", "targets": ("q", "v"), "dora": True},
        ("--model", "13b", "--method", "lora", "--targets", "q,v", "--dora"),
    ),
    ("train_memory", ("7b",), {"context": 99, "recompute": "full"}, ("--context", "99", "--recompute", "full")),
]


@pytest.mark.parametrize(("name", "given", "options", "argv"), CALLS)
def test_a_call_gives_what_the_command_prints(
    capsys: Capture, name: str, given: tuple[str, ...], options: dict[str, object], argv: tuple[str, ...]
) -> None:
    result = getattr(llamalab, name)(*given, **options)
    assert {"schema_version": 1, **json.loads(json.dumps(dict(result)))} == loaded(
        capsys, name.replace("_", "-"), *argv
    )
    assert json.loads(result.to_json()) == loaded(capsys, name.replace("_", "-"), *argv)


@pytest.mark.parametrize(("name", "given", "options", "argv"), CALLS)
def test_a_result_has_a_frame_a_drawing_a_repr_and_html(
    name: str, given: tuple[str, ...], options: dict[str, object], argv: tuple[str, ...]
) -> None:
    result = getattr(llamalab, name)(*given, **options)
    frame = result.to_frame()
    assert len(frame) == len(result.rows or result.to_dict()["rows"])
    assert "basis" in frame.columns
    axes = Figure().subplots()
    assert result.plot(axes) is axes
    assert axes.has_data()
    assert repr(result).splitlines()[-1].strip()
    assert result._repr_html_().count("<table>") >= 1
    assert set(result.keys()) <= set(dir(result))
    with pytest.raises(AttributeError, match="has no 'nonsense'; it has "):
        result.nonsense  # noqa: B018


def test_an_architecture_is_a_model_everywhere() -> None:
    arch = llamalab.PRESETS["7b"].arch
    assert llamalab.kv(arch).kv_bytes == llamalab.kv("7b").kv_bytes
    assert llamalab.predict(arch, "h200").total_s == llamalab.predict("7b", "h200").total_s


def test_html_cannot_be_steered_by_a_name() -> None:
    html = llamalab.params("7b")._repr_html_()
    assert "<script" not in html
    result = llamalab.kv("7b")
    result._answer.data["model"] = "<script>"
    assert "<script>" not in result._repr_html_()


def test_errors_name_arguments_and_no_option() -> None:
    with pytest.raises(InputError) as wrong:
        llamalab.kv("7b", context=-4)
    assert str(wrong.value).startswith("context must be a whole number")
    with pytest.raises(DoesNotFitError) as large:
        llamalab.predict("70b", "l4")
    assert "--" not in str(large.value)
    with pytest.raises(UnknownNameError, match="did you mean 7b"):
        llamalab.params("7bb")
    with pytest.raises(InputError) as option:
        llamalab.predict("7b", "l4", nonsense=3)
    assert "nonsense" in str(option.value)
    assert "--" not in str(option.value)
    with pytest.raises(InputError, match="a run must be given; got none"):
        llamalab.compare()
    with pytest.raises(InputError, match="a run must be named by a text or a path; got int"):
        llamalab.compare("7b@l4", 7)  # type: ignore[arg-type]


def test_what_a_command_notes_is_with_the_result(capsys: Capture) -> None:
    result = llamalab.predict("7b", "h100")
    assert result.notes[0].startswith("h100 is taken for h100-80gb-sxm")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "name", ["kv", "params", "flops", "fit", "predict", "roofline", "tune", "train_memory", "bench"]
)
def test_the_arguments_of_a_call_are_options_of_its_command(name: str) -> None:
    call: Callable[..., object] = getattr(llamalab, name)
    _, parser = verb_parser(name.replace("_", "-"))
    options = {option.removeprefix("--").replace("-", "_") for option in parser.options}
    parameters = inspect.signature(call).parameters.values()
    assert {one.name for one in parameters if one.kind is not one.VAR_KEYWORD} <= options
    assert all(
        one.name in options for one in parameters if one.default is not one.empty and one.kind is not one.VAR_KEYWORD
    )


def test_dir_lists_a_call_for_each_thing_and_nothing_else() -> None:
    wanted = "kv params flops fit predict roofline measure bench profile report compare load load_tokenizer generate"
    assert sorted(dir(llamalab)) == sorted([*wanted.split(), "PRESETS", "HARDWARE"]) == sorted(llamalab.__all__)


@pytest.mark.parametrize("name", [name for _, names in FURTHER for name in names])
def test_names_of_other_rooms_can_still_be_had(name: str) -> None:
    assert getattr(llamalab, name).__module__.startswith("llamalab.")


def test_a_room_of_the_name_of_a_call_can_still_be_called() -> None:
    import llamalab.measure.report.run
    import llamalab.report.layout

    assert callable(llamalab.report)
    assert callable(llamalab.measure)
    assert llamalab.report.layout.__name__ == "llamalab.report.layout"
    assert "record" in inspect.signature(llamalab.report).parameters


CALCULATED: dict[str, dict[str, object]] = {
    "kv": {}, "params": {}, "flops": {"prompt": 8}, "fit": {"memory": "24GiB", "context": 64}, "predict": {},
    "roofline": {}, "tune": {"method": "lora"}, "train_memory": {},
}  # fmt: skip
NO_VALUES = [-1, 1.5, 2.0, True, False, "x", "", float("nan"), 10**400, [], [-2], {"a": 1}, {2}, b"2", object()]


@pytest.mark.parametrize("name", CALCULATED)
@pytest.mark.parametrize("wrong", NO_VALUES, ids=lambda wrong: f"{type(wrong).__name__}-{str(wrong)[:5]}")
def test_no_argument_of_a_call_takes_what_is_no_value(name: str, wrong: object) -> None:
    call: Callable[..., object] = getattr(llamalab, name)
    for one in inspect.signature(call).parameters.values():
        if one.kind is one.VAR_KEYWORD:
            continue
        with pytest.raises(LlamaLabError) as refused:
            call(**CALCULATED[name] | {one.name: wrong})
        assert "\n" not in str(refused.value), one.name


@pytest.mark.parametrize("name", CALCULATED)
def test_an_architecture_is_no_other_argument(name: str) -> None:
    call: Callable[..., object] = getattr(llamalab, name)
    for one in inspect.signature(call).parameters.values():
        if one.kind is not one.VAR_KEYWORD and one.name != "model":
            with pytest.raises(InputError, match=f"{one.name} must be no architecture; got one; give it as model"):
                call(**CALCULATED[name] | {one.name: llamalab.PRESETS["7b"].arch})


def test_a_flag_may_be_false_and_an_argument_that_is_none_may_not() -> None:
    assert llamalab.tune("7b", method="lora", dora=False).trained_parameters == (
        llamalab.tune("7b", method="lora").trained_parameters
    )
    with pytest.raises(InputError, match="nonsense"):
        llamalab.predict("7b", "l4", nonsense=False)
