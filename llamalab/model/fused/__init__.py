"""A decode step in few Triton kernels: operations between the products fused into one launch instead of about five.

    a layer: add + norm, wq, wk, wv, turn + append, attention, wo, add + norm, w1, w3, gate, w2

The twelve launches of a layer are a step of one new token a sequence at a position that lies in memory, so that one
CUDA graph serves every position. It computes what llamalab.model.transformer computes, rounded at the same places.

Belongs here: the kernels, one file each kind, the step that launches them in order, and the models it supports. Does
not belong here: attention (attention.triton_flash), the choice of a token and the recording of graphs
(text.decode_loop),
models with taps, hooks, ranks or a compiler, which run the plain pass.
"""
