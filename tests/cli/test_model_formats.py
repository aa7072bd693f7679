"""--model on every calculator and in every form: one set of numbers, and headers alone are read for it."""

import json
from pathlib import Path

import pytest

from llamalab.checkpoints.checkpoint import Weights
from llamalab.checkpoints.convert import Wishes, convert
from llamalab.cli.find_model import model_to_measure
from llamalab.cli.whole_model import whole_model
from llamalab.model import build
from llamalab.presets import PRESETS
from tests.cli.calls import Capture, loaded

ARCH = PRESETS["stories260k"].arch.replace(tied_embeddings=False)  # Meta's format has no place for tied ones
VERBS: dict[str, tuple[str, ...]] = {
    "kv": (),
    "params": (),
    "flops": ("--prompt", "64"),
    "fit": ("--memory", "80GiB", "--context", "64"),
    "predict": ("--hardware", "l4", "--prompt", "64", "--generate", "8"),
    "roofline": ("--hardware", "l4", "--prompt", "64"),
    "compare-hardware": ("--hardware", "l4,h200", "--prompt", "64", "--generate", "8"),
    "plan": ("--hardware", "h200", "--prompt", "64", "--generate", "8"),
    "train-memory": ("--context", "64"),
    "tune": ("--method", "lora"),
    "taps": (),
}
TOLD = {"model", "models", "name", "path", "stored_bytes", "stored_as", "weight_dtype"}  # its name, and its storage


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same model in every form that --model takes, in fp32."""
    from llamalab.checkpoints import write_llama2c

    folder = tmp_path_factory.mktemp("models")
    source = folder / "source.bin"
    write_llama2c(source, build(ARCH, dtype="fp32", seed=0))
    (folder / "arch.json").write_text(json.dumps(ARCH.as_dict()))
    for form, name in (("hf", "hf"), ("gguf", "model.gguf"), ("meta", "meta")):
        convert(source, folder / name, form, Wishes("fp32"))
    shards = folder / "sharded"
    convert(source, shards, "hf", Wishes("fp32"))
    (weights,) = shards.glob("*.safetensors")
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        names = list(file.keys())
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, weights.name)}))
    return {
        "architecture as JSON": str(folder / "arch.json"),
        "llama2.c": str(source),
        "folder": str(folder / "hf"),
        "config.json": str(folder / "hf" / "config.json"),
        "index": str(shards / "model.safetensors.index.json"),
        "GGUF": str(folder / "model.gguf"),
        "Meta's folder": str(folder / "meta"),
        "a shard of Meta's": str(folder / "meta" / "consolidated.00.pth"),
    }


@pytest.fixture(autouse=True)
def headers_only(monkeypatch: pytest.MonkeyPatch, models: dict[str, str]) -> None:
    def fetch(weights: Weights, name: str) -> object:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(Weights, "fetch", property(lambda weights: lambda name: fetch(weights, name)), raising=False)


@pytest.mark.parametrize("verb", VERBS)
def test_every_form_gives_the_same_numbers(capsys: Capture, models: dict[str, str], verb: str) -> None:
    asked = ("--dtype", "fp32", *VERBS[verb])
    told = {form: plain(loaded(capsys, verb, "--model", name, *asked)) for form, name in models.items()}
    assert [form for form in told if told[form] != told["architecture as JSON"]] == []


def test_what_measures_takes_the_weights_of_every_form_that_has_some(capsys: Capture, models: dict[str, str]) -> None:
    """As `report`, `bench` and `profile` do before they run a model."""
    found = {form: model_to_measure(whole_model(name)) for form, name in models.items()}
    assert {arch.replace(max_positions=ARCH.max_positions) for _, arch, _ in found.values()} == {
        ARCH
    }  # Meta has no context
    assert {form for form, (_, _, weights) in found.items() if weights is None} == {
        "architecture as JSON", "config.json",
    }  # fmt: skip
    assert capsys.readouterr().err.count("note: the weights are those of") == len(models) - 2


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("alias", ["Llama-2-7B", "meta-llama/Llama-2-7b-hf"])
def test_an_alias_is_its_preset(capsys: Capture, verb: str, alias: str) -> None:
    assert plain(loaded(capsys, verb, "--model", alias, *VERBS[verb])) == plain(
        loaded(capsys, verb, "--model", "7b", *VERBS[verb])
    )


def plain(data: object) -> object:
    """An answer without how its model was named."""
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items() if key not in TOLD}
    return [plain(one) for one in data] if isinstance(data, list) else data


def test_a_file_of_a_checkpoint_stands_for_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.json", "params.json", "model.safetensors.index.json", "a.pth", "adapter_model.safetensors"):
        (tmp_path / name).write_text("{}")
    assert whole_model(str(tmp_path / "model.safetensors.index.json")) == str(tmp_path)
    assert whole_model(str(tmp_path / "a.pth")) == str(tmp_path)
    assert whole_model(str(tmp_path / "adapter_model.safetensors")).endswith("adapter_model.safetensors")
    monkeypatch.chdir(tmp_path)
    assert whole_model("model.safetensors.index.json") == "."
    (tmp_path / "params.json").unlink()
    assert whole_model("a.pth") == "a.pth"
