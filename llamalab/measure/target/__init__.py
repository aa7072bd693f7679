"""The measured model: the built-in or a Hugging Face one, whole or k of its n blocks.

Belongs here: `target` (one interface to run either model and to name its operations), `blocks` (how many real-size
blocks fit), `profiled_share` (the blocks that a profile of a preset runs).
Does not belong here: clocks, profilers and their results.
"""
