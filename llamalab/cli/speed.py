"""The speed of generated text, compared with the roofs of this machine.

TTFT is the time to the first token. A bound is the sum over all operations of the longer of
FLOPs / matrix roof and bytes / streaming roof, both measured here (llamalab.measure.roofs.probes); a share
is bound / measured time. Decode is counted from when every row has its first token.
"""

from collections.abc import Sequence
from time import perf_counter

from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.op import add_up
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import Rates, predict_op
from llamalab.cli.output import percent
from llamalab.formatting import format_rate, format_si
from llamalab.startup.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from llamalab.text.generate import Generation

_ROOF_ROWS = 256


class Stopwatch:
    """When tokens came; started when it is made."""

    def __init__(self, rows: int) -> None:
        self._start_s, self._tokens = perf_counter(), [0] * rows
        self.first_s = self.all_begun_s = self.last_s = 0.0

    def see(self, row: int, tokens: int) -> None:
        """Record that row `row` has so many new tokens now; an unchanged number is no event."""
        if tokens == self._tokens[row]:
            return
        self.last_s = perf_counter() - self._start_s
        if not any(self._tokens):
            self.first_s = self.last_s
        if self._tokens[row] == 0:
            self.all_begun_s = self.last_s
        self._tokens[row] = tokens

    @property
    def tokens(self) -> int:
        """New tokens of all rows."""
        return sum(self._tokens)

    @property
    def decoded(self) -> int:
        """Tokens made one by one: all but the first of each row."""
        return sum(max(0, tokens - 1) for tokens in self._tokens)

    @property
    def decode_s(self) -> float:
        """Seconds of these."""
        return self.last_s - self.all_begun_s


def speed_summary(watch: Stopwatch, generations: Sequence["Generation"], attention: str) -> list[str]:
    """Sentences on speed; the roofs are measured for them, in a few seconds."""
    if watch.tokens == 0:
        return ["no new token: TTFT and tokens/s are not measured"]
    rates = measured_rates(generations[0])
    prompt_s, _ = bound(generations[:1], attention, rates, decode=False)
    ttft = f"TTFT {format_si(watch.first_s, 's')}, {_share(prompt_s, watch.first_s)}"
    roofs = (
        f"roofs measured here: {format_si(rates.peak_flops_per_s or 0.0, 'FLOP/s')}, "
        f"{format_si(rates.bandwidth_bytes_per_s, 'B/s')}"
    )
    if watch.decoded == 0:
        return [f"{ttft}; {watch.tokens} new token: tokens/s of decode is not measured", roofs]
    decode_bound_s, moved = bound(generations, attention, rates, decode=True)
    speed = f"decode {format_rate(watch.decoded / watch.decode_s)} tokens/s ({watch.tokens} new tokens)"
    share = f"{format_si(moved / watch.decode_s, 'B/s')}, {_share(decode_bound_s, watch.decode_s)}"
    return [f"{ttft}; {speed}, {share}", roofs]


def _share(bound_s: float, seconds: float) -> str:
    """The share of the roof that was reached, at most 1: a rate above every probe raises the roof."""
    if bound_s > seconds:
        return "100.0 % of the roof (faster than its probes: weights from a cache, or a machine that was slower then)"
    return f"{percent(bound_s / seconds)} of the roof"


def bound(generations: Sequence["Generation"], attention: str, rates: Rates, *, decode: bool) -> tuple[float, int]:
    """Seconds that the roofs allow, and bytes moved: of the prompts, or of all passes that made the other tokens."""
    passes: list[tuple[int, list[int]]] = [(len(g.prompt_ids), [len(g.prompt_ids)]) for g in generations]
    if decode:
        longest = max(len(g.ids) for g in generations)
        passes = [
            (1, [len(g.prompt_ids) + made for g in generations if len(g.ids) > made]) for made in range(1, longest)
        ]
    from llamalab.model.quantised.weights import kept_of

    arch, dtype, kv_dtype = generations[0].model.arch, *_dtypes(generations[0])
    time_s, moved = 0.0, 0
    for new_tokens, contexts in passes:
        ops = model_ops(
            arch,
            PassShape(
                new_tokens=new_tokens,
                context_tokens=contexts,
                batch=len(contexts),
                dtype=dtype,
                kv_dtype=kv_dtype,
                attention=attention,
            ),
            kept=kept_of(generations[0].model),
        )
        time_s += sum(op.count * predict_op(op, rates).bound_s for op in ops)
        moved += add_up(ops).bytes
    return time_s, moved


def measured_rates(generation: "Generation") -> Rates:
    """The matrix and the streaming roof of the machine that a text was made on."""
    from llamalab.measure.device.machine import clock_for
    from llamalab.measure.roofs.machine import Machine
    from llamalab.measure.roofs.probes import SQUARE, gemm_roof, stream_roof

    device = generation.model.tok_embeddings.weight.device
    machine = Machine(device, clock_for(device), _dtypes(generation)[0])
    matrix, stream = gemm_roof(machine, [SQUARE], _ROOF_ROWS), stream_roof(machine, [SQUARE])
    return Rates(matrix.per_second, stream.per_second or 0.0)


def _dtypes(generation: "Generation") -> tuple[str, str]:
    from llamalab.text.generate import dtype_name

    return dtype_name(generation.model), generation.cache.dtype
