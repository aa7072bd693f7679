"""What is measured: the built-in model or a Hugging Face one, whole or k of its n blocks.

Belongs here: `target` (one interface to run either model and to name its operations), `blocks` (how many real-size
blocks fit), `profiled_share` (what a profile of a preset runs on).
Does not belong here: clocks, profilers and their results.
"""
