"""The page of profiles: time over depth, memory by operation, kernels, the device's state, the cost of instruments.

One profile is a part of a report; one or more make a page of their own, side by side.
"""

from collections.abc import Sequence

from markupsafe import Markup

from llamalab.comparison.wording import full_name, machine, tokens_per_s
from llamalab.formatting import format_seconds
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.profile import Profile
from llamalab.report import profile_captions as captions
from llamalab.report import profile_tables as tables
from llamalab.report.bounded import fill_bounded
from llamalab.report.layout import Card, Listing, PageContent, Section
from llamalab.report.profile_parts import conditions, findings_of, of_phases, profile_parts
from llamalab.report.provenance import surroundings

_CLOSING = (
    "Times are of the blocks that ran; shares are of the whole model's pass. Clean times, kernels and memory come "
    "from passes of their own. An error is predicted / measured − 1. GiB is 2³⁰ bytes, GB 10⁹."
)


def profile_sections(profiles: Sequence[Profile]) -> list[Section]:
    """A page of profiles: time, memory, kernels and conditions, each plot drawn for each profile."""
    parts = profile_parts(profiles)
    beside = (tables.side_by_side_table(profiles),) if len(profiles) > 1 else ()
    flames, over_depth = parts.time
    every = over_depth._replace(anchor="layers", title="Time of every operation", finding="", figures=(), remarks=())
    return [
        Section(
            anchor="time",
            short="Time",
            heading="Where the time goes",
            finding=over_depth.finding,
            board=(*over_depth.figures, *beside),
            remarks=over_depth.remarks,
            folds=(flames, every),
        ),
        Section(
            anchor="memory",
            short="Memory",
            heading="Memory",
            finding=findings_of(profiles, of_phases(captions.peak_finding)),
            board=parts.memory_figures,
            remarks=(),
            folds=parts.memory,
        ),
        *parts.kernels,
        *conditions(parts),
    ]


def profile_page(profiles: Sequence[Profile], profile_json: str, generator: str) -> str:
    """A page of profiles alone. `profile_json` must be safe inside a script element."""
    first = profiles[0]
    name = full_name(first.model)
    kinds = " and ".join(dict.fromkeys(one.kind for one in profiles))
    return fill_bounded(
        PageContent(
            generator=generator,
            title=name,
            machine=machine(first.environment),
            dtype=first.formats,
            purpose="time and memory by operation",
            headline=f"{name} in {first.formats} on {machine(first.environment)}, "
            f"profiled operation by operation: {kinds}.",
            cards=[_card(profile, phase) for profile in profiles for phase in profile.phases],
            listings=(
                Listing("What takes the time", _headlines(profiles)),
                Listing(
                    "What to distrust", list(dict.fromkeys(note for one in profiles for note in one.notes)), "doubt"
                ),
            ),
            sections=profile_sections(profiles),
            facts=surroundings(first.environment),
            closing=_CLOSING,
            record_json=Markup(profile_json),
            tables=list(tables.csv_tables(profiles).values()),
        )
    )


def _headlines(profiles: Sequence[Profile]) -> list[str]:
    """One sentence for each phase of each profile: the operations with the largest share."""
    return [
        f"{profile.kind}, {phase.phase}: most of the whole pass goes to {captions.largest_parts(phase)}."
        for profile in profiles
        for phase in profile.phases
    ]


def _card(profile: Profile, phase: PhaseProfile) -> Card:
    value, unit = format_seconds(phase.wall_s).split(" ")
    blocks = f"{phase.layers_measured} of {phase.layers_total} blocks, {tokens_per_s(phase.tokens_per_s)}"
    details: tuple[str, ...] = (
        f"{phase.batch} × {phase.new_tokens:,} tokens in a context of {phase.context_tokens:,}",
        blocks,
        f"its operations add up to {1 + phase.closure:.0%} of it",
    )
    state = "bad" if phase.missing or phase.throttled else "good"
    if phase.throttled:
        details = (*details, f"throttled: {', '.join(phase.throttled)}")
    return Card(f"{phase.phase.capitalize()}, {profile.kind}", value, unit, details, state=state)
