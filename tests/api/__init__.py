"""The calls of `import llamalab`."""
