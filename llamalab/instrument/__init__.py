"""Looking inside a running model: the closed list of points, and what can be done at them."""
