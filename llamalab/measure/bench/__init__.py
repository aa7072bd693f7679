"""Tokens per second of the built-in model over prompt, depth and batch.

Belongs here: `run` (the tests of a bench), `settings` (shared settings, and rows), `passes` (of one test), `repeats`
(repetitions until they agree), `rows` (one line and its figures), `reference` (prediction and limit of each test).
Does not belong here: printing (cli), the A/B gate (tools/speedgate).
"""
