"""The Transformer of 2017 (Vaswani et al., arXiv 1706.03762), complete, for comparison with Llama 2.

Encoder, decoder, cross attention, three masks, sinusoidal positions, LayerNorm behind each residual sum, ReLU, beam
search. Without an encoder it is a decoder-only model, without a decoder an encoder-only one. Taps are those of
llamalab.model.tap, rows of cost those of llamalab.analytic.op; `points` joins the two by name.

Belongs here: `shape` (its sizes), `costs` (its parameters, op table, KV), both without torch; `points`, `masks`,
`positions`, `attention`, `blocks`, `transformer`, `state` (keys and values kept), `search` (greedy, beam),
`torch_weights` (from torch.nn.Transformer).
Does not belong here: anything that Llama has (model), training, clocks. Nothing of llamalab.model but its taps is used.
May import: model.tap, model.tap_stack, instrument.points, analytic, units, errors.
"""
