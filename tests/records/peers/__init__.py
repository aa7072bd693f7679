"""Files in the shapes that other tools write."""
