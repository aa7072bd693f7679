"""Access to tensors inside a running model: the closed list of points, and operations on them.

Belongs here: `points` (names, shapes), `taps` (capture, edit), `reduce` (statistics in constant memory), `edits`,
`scores` (scores and pattern recomputed for some heads), `bind` (attaches taps to a model), `hugging_face`, `hf_hooks`
and `hf_attention` (attach taps to a model of transformers).
Does not belong here: clocks and profilers (measure), costs (analytic), a second model.
May import: model, attention, arch, errors.
"""
