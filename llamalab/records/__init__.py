"""The results of a measuring run as plain data: to JSON and back.

Belongs here: `record` (a report's run), `environment` (where it was made), `record_json` (as a file, and back),
`profile` and `phase_profile` (a profile's), `ranks` (of several ranks), `codec` (JSON to dataclasses by their
annotations), `frames` and `run_frames` (as DataFrames), `peers` (what other tools write).
Fields carry their unit in the name; what is unknown is None with a reason.
Does not belong here: torch, measuring, derived figures (they are the comparison's), rendering.
May import: arch, units, errors.
"""
