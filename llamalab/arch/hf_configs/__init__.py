"""A Hugging Face config.json as an architecture, or the reason why none describes it.

Belongs here: `config` (the reader), `family` (the fields of a family's row), `families` (Llama and those that the
built-in model runs), `relatives` (dense models of other blocks), `mixtures` (of experts), `missing` (models without a
row, with the unsupported part). A model of a known kind is one row, of data.
Does not belong here: files and folders (arch.files and checkpoints read them), weights and tensor names (checkpoints),
models by a short name (presets), whether the built-in model runs an architecture (runnable).
May import: arch and what it imports.
"""
