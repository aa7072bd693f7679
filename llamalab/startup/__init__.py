"""Modules for a short start of a program, and settings that must precede the import of a large library.

Belongs here: `hints` (typing's names, without importing it), `made_rows` (tables whose rows are made on demand),
`large_pages` (memory in large pages, requested before torch starts), `plotting` (matplotlib with a backend that
exists). Does not belong here: the import of a library that one function needs (it is inside that function).
May import: nothing of llamalab but each other.
"""
