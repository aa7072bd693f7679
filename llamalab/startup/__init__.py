"""What keeps the start of a program short, or must be set before a large library starts.

Belongs here: `hints` (typing's names, without importing it), `made_rows` (tables whose rows are made when they are
asked for), `large_pages` (memory in large pages, asked for before torch starts), `plotting` (matplotlib with a backend
that exists). Does not belong here: the import of a library that one function needs (it stands in that function).
May import: nothing of llamalab but each other.
"""
