"""One line of a bench: a test, its raw times, and the figures that follow from them.

    tokens/s of a repetition = batch * tokens / seconds        mean and deviation are over repetitions
    TTFT                     = seconds of the pass over the prompt, to the logits of its last position
    inter-token latency      = seconds of each later pass, of all repetitions together

Tests are named as llama-bench names them: pp512 processes a prompt of 512 tokens, tg128 generates 128
tokens one at a time, pp512+tg128 does both, and `@ d4096` says that 4096 tokens are in the cache before.
Token ids are given, not sampled. Plain data that JSON can hold; unknown values are null.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import mean, quantiles, stdev
from typing import Any, NamedTuple

from llamalab.comparison.passes import relative_error
from llamalab.errors import InputError

MEASURED, MEASURED_TIED = "measured", "measured, tied blocks"


class BenchCase(NamedTuple):
    """A test: `prompt` tokens at once, then `generate` one by one, after `depth` cached tokens, `batch` sequences.

    >>> BenchCase(512, 0, 4096, 1).test, BenchCase(0, 128, 0, 4).test, BenchCase(512, 128, 0, 1).test
    ('pp512 @ d4096', 'tg128', 'pp512+tg128')
    """

    prompt: int
    generate: int
    depth: int = 0
    batch: int = 1

    @property
    def test(self) -> str:
        """The name in llama-bench's spelling."""
        parts = [f"{kind}{size}" for kind, size in (("pp", self.prompt), ("tg", self.generate)) if size]
        return "+".join(parts) + (f" @ d{self.depth}" if self.depth else "")

    @property
    def tokens(self) -> int:
        """Tokens of all sequences that one repetition processes or generates."""
        return self.batch * (self.prompt + self.generate)

    @property
    def context(self) -> int:
        """Tokens of a sequence at the end."""
        return self.depth + self.prompt + self.generate

    @property
    def passes(self) -> list[tuple[int, int]]:
        """(new tokens, tokens in context) of every forward pass of a repetition, in order.

        >>> BenchCase(512, 2, 10).passes
        [(512, 522), (1, 523), (1, 524)]
        """
        first = self.depth + self.prompt
        prompt = [(self.prompt, first)] if self.prompt else []
        return prompt + [(1, first + made) for made in range(1, self.generate + 1)]

    def check(self) -> None:
        """Raise InputError for impossible sizes."""
        if min(self.prompt, self.generate, self.depth) < 0 or self.batch < 1 or not self.prompt + self.generate:
            raise InputError(
                "a test must have a prompt or tokens to generate, at depth 0 or more and batch 1 or more; "
                f"got {tuple(self)}"
            )


def grid(
    prompts: Iterable[int],
    generates: Iterable[int],
    pairs: Iterable[tuple[int, int]] = (),
    *,
    depths: Iterable[int] = (0,),
    batches: Iterable[int] = (1,),
) -> list[BenchCase]:
    """Every test at every depth and batch: prompts, then generation, then both. Raises InputError for bad sizes.

    >>> [case.test for case in grid([512], [128], [(64, 32)], depths=[0, 4096])]
    ['pp512', 'tg128', 'pp64+tg32', 'pp512 @ d4096', 'tg128 @ d4096', 'pp64+tg32 @ d4096']
    """
    tests = [*((prompt, 0) for prompt in prompts), *((0, made) for made in generates), *pairs]
    cases = [BenchCase(*test, depth, batch) for depth, batch, test in product(depths, batches, tests)]
    for case in cases:
        case.check()
    return list(dict.fromkeys(cases))


class Percentiles(NamedTuple):
    """Median and upper percentiles of some seconds."""

    p50_s: float
    p90_s: float
    p99_s: float


def percentiles(samples_s: Sequence[float]) -> Percentiles | None:
    """p50, p90 and p99, interpolated linearly between samples; None without samples.

    >>> percentiles([float(second) for second in range(1, 102)])
    Percentiles(p50_s=51.0, p90_s=91.0, p99_s=100.0)
    """
    if len(samples_s) < 2:
        return Percentiles(*(samples_s[0],) * 3) if samples_s else None
    cuts = quantiles(samples_s, n=100, method="inclusive")
    return Percentiles(cuts[49], cuts[89], cuts[98])


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """One test of one model on one machine.

    `passes_s` holds a list per repetition: seconds of every forward pass, in order. `size_bytes` are the whole
    model's weights, `blocks_distinct` of `blocks_total` are in memory. `warmup_s` is the time before the first
    repetition, compilation included. `basis` is that of the times, `prediction_basis` that of the predicted rate; where
    one of them is null, its reason is not. `kernel` is the fused attention kernel in the profiler's trace, null without
    one; `product` is the kind of matrix product: packed, plain, or the kernel of quantised weights; `weight_dtype` is
    the storage of these, null where they are in `dtype`, and products of `kernel_rows` rows and more widen them first;
    `kv_dtype` is the storage of the KV cache, null where it is in `dtype`. `memory_bytes` is the memory held, by
    `memory_method`; `weights` are a checkpoint's, random, or those of a model in memory. `load_average` is the host's
    before the first repetition; `disturbances` are reasons why the times may be too long, `remarks` further sentences
    on the test.
    """

    model: str
    size_bytes: int
    parameters: int
    backend: str
    device: str
    threads: int
    dtype: str
    attention: str
    kernel: str | None
    compiled: str
    blocks_distinct: int
    blocks_total: int
    blocks: str
    test: str
    prompt_tokens: int
    generated_tokens: int
    depth_tokens: int
    batch: int
    basis: str | None
    reason: str | None = None
    warmup_s: float | None = None
    passes_s: list[list[float]] = field(default_factory=list)
    flops_per_s: float | None = None
    gemm_fraction: float | None = None
    bytes_per_s: float | None = None
    stream_fraction: float | None = None
    predicted_tokens_per_s: float | None = None
    prediction_basis: str | None = None
    prediction_reason: str | None = None
    memory_bytes: int | None = None
    memory_method: str | None = None
    weights: str = "random"
    throttle_reasons: list[str] | None = None
    load_average: float | None = None
    disturbances: list[str] = field(default_factory=list)
    product: str | None = None
    ranks: int = 1
    weight_dtype: str | None = None
    kernel_rows: int | None = None
    kv_dtype: str | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def case(self) -> BenchCase:
        """The test of this row."""
        return BenchCase(self.prompt_tokens, self.generated_tokens, self.depth_tokens, self.batch)

    @property
    def rates(self) -> list[float]:
        """Tokens per second of each repetition."""
        return [self.case.tokens / sum(passes) for passes in self.passes_s]

    @property
    def tokens_per_s(self) -> float | None:
        """Mean over the repetitions."""
        return mean(self.rates) if self.passes_s else None

    @property
    def tokens_per_s_deviation(self) -> float | None:
        """Standard deviation of a repetition; None of a single one."""
        return stdev(self.rates) if len(self.passes_s) > 1 else None

    @property
    def ttft(self) -> Percentiles | None:
        """Seconds to the logits of the prompt's last position; None without a prompt."""
        return percentiles([passes[0] for passes in self.passes_s]) if self.prompt_tokens else None

    @property
    def token_latency(self) -> Percentiles | None:
        """Seconds between tokens; None where none is generated."""
        skipped = 1 if self.prompt_tokens else 0
        return percentiles([seconds for passes in self.passes_s for seconds in passes[skipped:]])

    @property
    def predicted_error(self) -> float | None:
        """Predicted / measured - 1 of the tokens per second: positive where it was slower than predicted."""
        return relative_error(self.predicted_tokens_per_s, self.tokens_per_s)

    def figures(self) -> dict[str, Any]:
        """All stored and derived figures, without the raw times."""
        stored = dataclasses.asdict(self)
        del stored["passes_s"]
        ttft, latency = self.ttft, self.token_latency
        return stored | {
            "repetitions": len(self.passes_s),
            "tokens_per_s": self.tokens_per_s,
            "tokens_per_s_deviation": self.tokens_per_s_deviation,
            **{f"ttft_{name}": getattr(ttft, name, None) for name in Percentiles._fields},
            **{f"token_{name}": getattr(latency, name, None) for name in Percentiles._fields},
            "predicted_error": self.predicted_error,
        }

    def to_dict(self) -> dict[str, Any]:
        """The figures and the raw times: plain data for JSON."""
        return self.figures() | {"passes_s": self.passes_s}
