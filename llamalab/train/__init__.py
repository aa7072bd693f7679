"""Training small models on real text: the next token's loss, Llama 2's recipe, checkpoints that resume to the bit.

Read in this order: recipe, token_stream, masters, trainer, saved; corpus writes a text where there is none.

Belongs here: what one process needs to train a model that it can hold, for experiments whose question is the loss.
Does not belong here: optimisers (torch.optim), formats of files (checkpoints), tokenizers (text), what a step should
cost (analytic), clocks and roofs (measure), variants of the model that only an experiment needs (experiments/common),
data loading, several devices, anything a training framework does.
"""
