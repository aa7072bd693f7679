"""The pictures of the course that no experiment has drawn: counted from architectures, nothing measured.

python -m tools.course_pictures [--to docs/images/course]
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.ticker import FuncFormatter, MultipleLocator

from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.parallel import all_reduce_bytes
from llamalab.analytic.params import weights
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.training import rank_parameters
from llamalab.files.outputs import write_text
from llamalab.presets import PRESETS
from llamalab.report.charts.base import INK, LOOKS, Plot, area, bar_axes, canvas, curve, handle, heading, ticks
from llamalab.report.drawing import drawing
from llamalab.train.recipe import Recipe
from llamalab.units import storage_bytes

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images" / "course"
SHOWN = ("stories260k", "7b", "13b", "70b", "llama-3-8b", "llama-3.2-1b")
PARTS = (("embedding and head", "ends"), ("attention", "projections"), ("feed-forward", "feed_forward"))
STEPS = 500_000  # about 2 T tokens in batches of 4 M, as Llama 2 was trained
TOKENS = 2048


def vocabularies() -> Plot:
    """The share of a model's parameters that are rows for its pieces, over the size of its vocabulary."""
    figures, (axes,) = canvas(2.9)
    for name in SHOWN:
        arch = PRESETS[name].arch
        share = 1 - sum(_parts(name)[1:]) / sum(_parts(name))
        axes.plot(arch.vocab_size, share, marker="o", markersize=7, color=INK["ends"], linestyle="")
        axes.annotate(
            name, (arch.vocab_size, share), xytext=(7, -3), textcoords="offset points", fontsize=8, color=INK["ink"]
        )
    axes.set_xscale("log")
    ticks(axes, [512, 4000, 32_000, 128_256])
    axes.set_xlim(right=600_000)
    axes.set_xlabel("pieces in the vocabulary")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    heading(axes, "Parameters of embedding and head, share of all")
    return Plot(figures, "What a vocabulary costs", "Share of embedding and head in six models.", {})


def parameters() -> Plot:
    """Where the parameters of some models are."""
    figures, (axes,) = canvas(2.9)
    bar_axes(axes)
    for y, name in enumerate(SHOWN[::-1]):
        left, counts = 0.0, _parts(name)
        for (_, colour), count in zip(PARTS, counts, strict=True):
            axes.barh(y, count / sum(counts), left=left, height=0.6, color=INK[colour])
            left += count / sum(counts)
    axes.set_yticks(range(len(SHOWN)), SHOWN[::-1])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    heading(axes, "Where the parameters are")
    keys = tuple(area(label, colour) for label, colour in PARTS)
    return Plot(figures, "Parameters by part", "Shares of embedding and head, attention, feed-forward.", {}, keys)


def _parts(name: str) -> tuple[int, int, int]:
    """Parameters of embedding and head, attention, and feed-forward; norms, a few thousandths, go with their block."""
    held = {"ends": 0, "attention": 0, "feed_forward": 0}
    for weight in weights(PRESETS[name].arch):
        inside = "feed_forward" if "feed_forward" in weight.name or "ffn" in weight.name else "attention"
        held[inside if weight.name.startswith("layers.") else "ends"] += weight.parameters
    return held["ends"], held["attention"], held["feed_forward"]


def block() -> Plot:
    """The shares of a block's parts in the FLOPs of a prompt of 7B, over its length."""
    figures, (axes,) = canvas(2.9)
    lengths = [2**power for power in range(7, 16)]
    rows = []
    for tokens in lengths:
        ops = forward_ops(PRESETS["7b"].arch, PassShape(tokens))
        whole = add_up(ops).flops_causal
        groups = {
            "attention itself": [op for op in ops if op.kind == "attention"],
            "its projections": [op for op in ops if op.kind == "gemm" and op.part == "attention"],
            "feed-forward": [op for op in ops if op.kind == "gemm" and op.part == "feed_forward"],
        }
        rows.append({name: add_up(own).flops_causal / whole for name, own in groups.items()})
    names = list(rows[0])
    for look, name in enumerate(names):
        curve(axes, lengths, [row[name] for row in rows], look)
    axes.set_xscale("log")
    ticks(axes, [128, 1024, 8192, 32_768])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens of the prompt")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    heading(axes, "FLOPs of a prompt of 7B")
    keys = tuple(handle(name, look) for look, name in enumerate(names))
    return Plot(figures, "A block's FLOPs", "Shares of attention, projections and feed-forward.", {}, keys)


def schedule() -> Plot:
    """Llama 2's learning rate: the warm-up, and all of it."""
    figures, panels = canvas(2.4, 2)
    for axes, last in zip(panels, (4000, STEPS), strict=True):
        steps = [max(1, last * place // 100) for place in range(101)]
        axes.plot(steps, [Recipe().rate(step, STEPS) * 1e4 for step in steps], color=INK["projections"], linewidth=1.8)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_major_locator(MultipleLocator(last / 4))
    heading(panels[0], "Rate in units of 1e-4: the warm-up")
    heading(panels[1], "The cosine, down to a tenth")
    return Plot(figures, "Llama 2's learning rate", "Linear warm-up of 2,000 steps, then half a cosine.", {})


def ranks() -> Plot:
    """What each of 1 to 8 ranks of 70B holds, and what it sends for a prompt."""
    figures, (held, sent) = canvas(2.9, 2)
    arch, counts = PRESETS["70b"].arch, (1, 2, 4, 8)
    sums = 2 * arch.n_layers
    buffer = storage_bytes(TOKENS * arch.dim, "bf16")
    for axes, values, look in (
        (held, [storage_bytes(rank_parameters(arch, count), "bf16") / 1e9 for count in counts], 0),
        (sent, [sums * all_reduce_bytes(buffer, count) / 1e9 for count in counts], 1),
    ):
        axes.bar(range(len(counts)), values, 0.6, color=INK[LOOKS[look][0]])
        axes.set_xticks(range(len(counts)), [str(count) for count in counts])
        axes.set_xlabel("ranks")
    heading(held, "Weights of a rank of 70B, GB")
    heading(sent, f"Sent by a rank for {TOKENS:,} tokens, GB")
    return Plot(figures, "A model cut over ranks", "Weights held and bytes sent by each rank of 70B.", {})


CHARTS: dict[str, Callable[[], Plot]] = {
    "01-vocabularies": vocabularies,
    "02-parameters": parameters,
    "08-block": block,
    "11-schedule": schedule,
    "12-ranks": ranks,
}


def draw(folder: Path) -> list[Path]:
    """Write every picture; where they are."""
    for name, chart in CHARTS.items():
        write_text(folder / f"{name}.svg", drawing(chart), ours='role="img"')
    return [folder / f"{name}.svg" for name in CHARTS]


def main(argv: Sequence[str] | None = None) -> None:
    """Draw and name the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=PICTURES, metavar="FOLDER")
    for path in draw(parser.parse_args(argv).to):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
