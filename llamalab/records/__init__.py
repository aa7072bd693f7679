"""What a measuring run leaves behind, as plain data: to JSON and back.

Belongs here: `record` (a report's run), `profile` and `phase_profile` (a profile's), `codec` (JSON to dataclasses by
their annotations). Fields carry their unit in the name; what is unknown is None with a reason.
Does not belong here: torch, measuring, derived figures (they are the comparison's), rendering.
May import: arch, units, errors.
"""
