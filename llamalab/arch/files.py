"""Architectures from files: Meta's `params.json`, a Hugging Face `config.json` or our own, recognised by content."""

from llamalab.arch import LlamaArch
from llamalab.arch.meta_params import from_meta_params
from llamalab.errors import FormatError, InputError
from llamalab.files.inputs import read_object

_OWN = {"n_layers", "n_kv_heads", "ffn_dim"}  # Meta has no ffn_dim


def read_arch(path: str) -> LlamaArch:
    """Read `params.json`, `config.json` or output of `LlamaArch.as_dict`, recognised by content.

    Raises MissingError where there is no file, FormatError for other content.
    """
    data = read_object(path, "model file")
    from llamalab.arch.hf_configs.config import (
        from_hf_config,  # imported here: a calculation by a model's name must not wait for it
    )

    try:
        if "hidden_size" in data or "model_type" in data:
            return from_hf_config(data)
        return LlamaArch.from_dict(data) if data.keys() >= _OWN else from_meta_params(data)
    except KeyError as missing:
        raise FormatError(
            f"{path} must be Meta's params.json, a Hugging Face config.json or a LlamaArch as JSON; it lacks {missing}"
        ) from None
    except (TypeError, AttributeError) as error:
        raise FormatError(f"{path} must hold numbers where a Llama has sizes; {error}") from None
    except InputError as error:
        raise FormatError(f"{path} must describe a Llama; {error}") from None
