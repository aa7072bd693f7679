"""The Python calls of `import llamalab`, one for each verb of the command line.

A call takes the options of the command of its name and runs the same function; its result has attributes,
`.to_frame()`, `.plot()`, a readable repr and a table in a notebook.

Belongs here: `calculate` and `training` (no PyTorch), `run` (measures or makes text), `results` (types of results),
`calls` (from arguments to a verb's answer), `plots`. Does not belong here: figures that the library cannot give,
options of a call that its command lacks.
"""
