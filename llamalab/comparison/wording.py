"""Names and figures in words: of models, machines and operations, signed percents, tokens per second."""

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Phase
from llamalab.presets import PRESETS
from llamalab.records.environment import Environment


def title(comparison: Comparison) -> str:
    """The full name of the record's model."""
    return full_name(comparison.record.model)


def full_name(model: str) -> str:
    """The full name of a preset; another model's name is unchanged."""
    preset = PRESETS.get(model)
    return preset.title if preset else model


def machine(environment: Environment) -> str:
    """The device in a few words."""
    if environment.device == "cpu":
        return f"{environment.threads} CPU thread{'s' if environment.threads != 1 else ''}"
    return environment.device_name


def blocks(phase: Phase) -> str:
    """K of n blocks."""
    return f"{phase.run.layers_measured} of {phase.run.layers_total} blocks"


def short(name: str) -> str:
    """An op's name without the layer prefix.

    >>> short("layers.*.attention.wq")
    'attention.wq'
    """
    return name.removeprefix("layers.*.")


def signed_percent(error: float) -> str:
    """A signed share of a whole.

    >>> signed_percent(0.123), signed_percent(-0.04), signed_percent(-0.996), signed_percent(-0.001)
    ('+12%', '−4%', '−99.6%', '0%')
    """
    # Below -95 % whole percents would not distinguish a factor of 20 from one of 200.
    text = f"{error:+.{1 if error < -0.95 else 0}%}".replace("-", "−")
    return "0%" if text in ("+0%", "−0%") else text


def tokens_per_s(value: float) -> str:
    """Tokens per second with three figures.

    >>> tokens_per_s(1234.5), tokens_per_s(1.8649), tokens_per_s(0.00321)
    ('1,234 tok/s', '1.86 tok/s', '0.0032 tok/s')
    """
    if 0 < value < 0.1:
        return f"{value:.2g} tok/s"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} tok/s"
