"""What several experiments share: results as files, isolated processes, contestants, the campaign's steps.

Belongs here: code that at least two experiments use. An experiment itself is one file beside this folder, named after
its question, and leaves its results under `experiments/records/<machine>/`.
"""
