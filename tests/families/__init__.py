"""Wide sweeps over models of other families, weights-free, against transformers; `make families` runs them."""
