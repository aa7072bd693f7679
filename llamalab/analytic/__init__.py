"""Costs by arithmetic: parameters, KV cache, attention, the op table, training memory, predicted time.

Belongs here: formulas over a LlamaArch, counts that are exact, constants and forecasts, each formula once.
Counts: `params`, `weight_storage`, `kv_cache`. The op table: `op` (a row), `op_rows`, `ops` (the one table that
prefill, decode, chunks, naive and flash attention all come from), `pass_shape`, `attention_cost`, `parallel`.
Memory: `activations`, `memory`, `fit` and its parts. Training: `training`, `fine_tuning`, `training_time`.
Rates: `constants`, `data_sheet`, `stacks`, `calibration_files`. Time: `roofline` (one operation), `forecast` (a run),
`splits`, `plan`.
Does not belong here: torch or any other package (the torch-free zone), anything measured, printing, files other than
constants. It does not import the model, so that the two accounts can be compared.
May import: arch, presets, hardware, units, errors.
"""
