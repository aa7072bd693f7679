"""Files of this machine: read without trust, and written so that none is ever left half done.

Belongs here: `inputs` (the one bounded reader of text and JSON that somebody else wrote), `mapped` (a file as memory),
`outputs` (text, binary files and folders that take their place at once or not at all), `workspace` (the hidden folder
in which they are made). Does not belong here: what is in a file (arch, checkpoints, records, report).
May import: errors, startup. The package itself imports nothing: a calculator reads files and never writes one.
"""
