"""A Hugging Face config.json as an architecture, or what of it is described nowhere here.

Belongs here: `config` (the reader), `family` (what a row of a family may say), `families` (Llama and those that the
built-in model runs), `relatives` (dense models of other blocks), `mixtures` (of experts), `missing` (models that no
row describes, with what is missing). A model of a known kind is one row, of data.
Does not belong here: files and folders (arch.files and checkpoints read them), weights and tensor names (checkpoints),
models by a short name (presets), whether the built-in model runs an architecture (runnable).
May import: arch and what it imports.
"""
