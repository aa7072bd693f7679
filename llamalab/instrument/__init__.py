"""Looking inside a running model: the closed list of points, and what can be done at them.

Belongs here: `points` (names, shapes), `taps` (capture, edit), `reduce` (statistics in constant memory), `edits`,
`scores` (scores and pattern recomputed for some heads), `bind` (how taps reach a model),
`hugging_face`, `hf_hooks` and `hf_attention` (how they reach one of transformers).
Does not belong here: clocks and profilers (measure), costs (analytic), a second model.
May import: model, attention, arch, errors.
"""
