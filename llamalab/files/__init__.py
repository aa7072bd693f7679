"""Files of this machine: read without trust, and written completely or not at all.

Belongs here: `inputs` (the one bounded reader of foreign text and JSON), `mapped` (a file as memory), `outputs` (text,
binary files and folders that are renamed into place at once), `workspace` (the hidden folder in which they are made).
Does not belong here: the content of a file (arch, checkpoints, records, report).
May import: errors, startup. The package itself imports nothing: a calculator reads files and never writes one.
"""
