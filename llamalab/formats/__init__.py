"""Containers of files that weights and tokenizers share: their headers, bounded and checked.

Belongs here: what a container says before anything in it is read (`gguf_header`).
Does not belong here: what the weights (checkpoints) or the vocabulary (text) in it mean.
May import: files, errors.
"""
