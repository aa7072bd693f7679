"""Tokens per second of the built-in model over prompt, depth and batch.

Belongs here: `run` (the tests of a bench), `settings` (common to them, and their rows), `passes` (of one test),
`repeats` (until they agree), `rows` (one line and its figures), `reference` (the prediction and the limit beside it).
Does not belong here: printing (cli), the A/B gate (tools/speedgate).
"""
