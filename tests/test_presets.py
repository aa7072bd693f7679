"""Every known model has the size it is known for."""

import pytest

from llamalab.analytic.kv_cache import kv_bytes_per_token
from llamalab.analytic.params import parameter_count
from llamalab.errors import MissingError, UnknownNameError
from llamalab.presets import PRESETS, resolve_model

# Parameters, and KV bytes per token in 2-byte storage.
KNOWN = {
    "7b": (6_738_415_616, 524_288),
    "13b": (13_015_864_320, 819_200),
    "34b": (33_743_970_304, 196_608),
    "70b": (68_976_648_192, 327_680),
    "llama1-7b": (6_738_415_616, 524_288),
    "llama1-13b": (13_015_864_320, 819_200),
    "llama1-33b": (32_528_943_616, 1_597_440),
    "llama1-65b": (65_285_660_672, 2_621_440),
    "tiny": (15_191_712, 6_912),
    "stories260k": (260_032, 640),
}


def test_every_preset_has_a_known_size() -> None:
    assert PRESETS.keys() == KNOWN.keys()


@pytest.mark.parametrize("name", KNOWN)
def test_size(name: str) -> None:
    arch = PRESETS[name].arch
    assert (parameter_count(arch), kv_bytes_per_token(arch)) == KNOWN[name]


@pytest.mark.parametrize("name", KNOWN)
def test_every_row_has_a_title_and_a_source(name: str) -> None:
    assert PRESETS[name].title
    assert "/" in PRESETS[name].source or "arXiv" in PRESETS[name].source


def test_only_the_two_shapes_that_llama_2_has_use_grouped_queries() -> None:
    grouped = {name for name, preset in PRESETS.items() if preset.arch.group_size > 1}
    assert grouped == {"34b", "70b", "stories260k"}


def test_a_preset_is_resolved_to_itself() -> None:
    assert resolve_model("70b") == ("70b", PRESETS["70b"].arch)


@pytest.mark.parametrize(("given", "nearest"), [("7B", "7b"), ("llama-13b", "llama1-13b"), ("70bb", "70b")])
def test_an_unknown_name_gets_the_nearest(given: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"got '{given}'; did you mean .*{nearest}"):
        resolve_model(given)


def test_a_path_is_read_and_not_looked_up() -> None:
    with pytest.raises(MissingError, match=r"there is no file nowhere/params\.json"):
        resolve_model("nowhere/params.json")
