"""The result of a profile: its phases, with model and machine. To JSON and back.

It is what page and command show; a record of llamalab report has the phases of its own run.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llamalab.errors import FormatError
from llamalab.files.inputs import parse_json
from llamalab.formatting import formats
from llamalab.records.codec import from_plain
from llamalab.records.environment import Environment
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.record import NOT_LOOKED, Record
from llamalab.records.roof import Roof

PROFILE_SCHEMA = 1
KEY = "profiles"  # the key of profiles in JSON, which no record has


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A profiled model. `kind` is llamalab or transformers.

    `weight_dtype` is the storage of quantised matrices, null where they are in `dtype`; `product` is the kind of matrix
    product, null where it is unknown.
    """

    kind: str
    model: str
    arch: dict[str, Any]
    dtype: str
    attention: str
    algorithm: str
    environment: Environment
    roofs: list[Roof]
    phases: list[PhaseProfile]
    notes: list[str] = field(default_factory=list)
    weight_dtype: str | None = None
    product: str | None = None
    kv_dtype: str | None = None
    schema_version: int = PROFILE_SCHEMA

    @property
    def formats(self) -> str:
        """In words, the number formats of the model."""
        return formats(self.dtype, self.weight_dtype, self.kv_dtype)

    def phase(self, name: str) -> PhaseProfile:
        """The phase of that name."""
        return next(one for one in self.phases if one.phase == name)


def profile_in(record: Record) -> Profile | None:
    """The profile that llamalab report took of the built-in model; None in a record without one."""
    if not record.profile:
        return None
    run = record.passes[0]
    return Profile(
        kind="llamalab",
        model=record.model,
        arch=record.arch,
        dtype=record.dtype,
        attention=run.attention,
        algorithm=run.algorithm,
        environment=record.environment,
        roofs=record.roofs,
        phases=record.profile,
        weight_dtype=record.weight_dtype,
        kv_dtype=record.kv_dtype,
        product=run.product,
    )


def why_no_profile(record: Record) -> str:
    """Why llamalab report left no profile in a record."""
    if any(run.memory.method == NOT_LOOKED for run in record.passes):
        return "there was no time left for it"
    return "the record was made by a version of llamalab that took no profile; measure anew"


def profiles_to_json(profiles: Sequence[Profile]) -> str:
    """One or more profiles as indented JSON, as `llamalab profile --format json` writes them."""
    return json.dumps({KEY: [dataclasses.asdict(one) for one in profiles]}, indent=1, allow_nan=False) + "\n"


def are_profiles(text: str) -> bool:
    """Whether a text is JSON of profiles, sound or not, and not a record.

    >>> are_profiles('{"profiles": []}'), are_profiles('{"schema_version": 1}'), are_profiles("no JSON")
    (True, False, False)
    """
    try:
        data = parse_json(text, "it")
    except FormatError:
        return False
    return isinstance(data, dict) and KEY in data


def profiles_from_json(text: str, *, source: str = "the profile") -> list[Profile]:
    """Read profiles back. Raises FormatError where there is none, or one of another schema."""
    data = parse_json(text, source)
    found = data.get(KEY) if isinstance(data, dict) else None
    if not isinstance(found, list) or not found:
        raise FormatError(f"{source} must hold profiles as JSON, as llamalab profile writes them; it has none")
    profiles = []
    for place, one in enumerate(found):
        version = one.get("schema_version") if isinstance(one, dict) else None
        if version != PROFILE_SCHEMA:
            raise FormatError(f"{source} must have schema_version {PROFILE_SCHEMA}; got {version!r}; measure anew")
        profile: Profile = from_plain(Profile, one, f"{source}.{KEY}[{place}]")
        faults = [f"{phase.phase} {phase.fault}" for phase in profile.phases if phase.fault]
        if faults or not profile.phases:
            raise FormatError(f"{source} must hold a sound measurement; {faults[0] if faults else 'there is no phase'}")
        profiles.append(profile)
    return profiles
