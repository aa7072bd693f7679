"""Training small models on real text: the next token's loss, Llama 2's recipe, checkpoints that resume to the bit.

Read in this order: recipe, token_stream, masters, trainer, saved; corpus writes a text where there is none.

Belongs here: training of a model that fits one process, for experiments on the loss. Does not belong here: optimisers
(torch.optim), formats of files (checkpoints), tokenizers (text), the predicted cost of a step (analytic), clocks and
roofs (measure), variants of the model for one experiment (experiments/common), data loading, several devices, and
other functions of a training framework.
"""
