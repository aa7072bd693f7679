"""Every program in examples/ runs as a reader would start it."""
