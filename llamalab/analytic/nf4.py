"""NF4, bitsandbytes' 4 bits of QLoRA (Dettmers et al. 2023, arXiv 2305.14314, section 3): bytes of a matrix.

An fp32 maximum for each block of 64 values; with double quantisation, 8-bit maxima with one fp32 value for each 256, a
table of 256 values and an offset. In addition every matrix has the table of the 16 values.
"""

NF4_BLOCK, NF4_NESTED = 64, 256
NF4_BITS = 4 + 32 / NF4_BLOCK  # a parameter, tables apart
NF4_DOUBLE_BITS = 4 + 8 / NF4_BLOCK + 32 / (NF4_BLOCK * NF4_NESTED)
_TABLE_BYTES, _NESTED_TABLE_BYTES, _OFFSET_BYTES = 16 * 4, 256 * 4, 4


def nf4_bytes(elements: int, *, twice: bool, offset: bool = True) -> int:
    """Bytes of a matrix of so many values; `offset` is that of double quantisation, which files keep in settings.

    >>> nf4_bytes(4096 * 4096, twice=False), nf4_bytes(4096 * 4096, twice=True)
    (9437248, 8655940)
    """
    blocks = -(-elements // NF4_BLOCK)
    scales = 4 * blocks
    if twice:
        scales = blocks + 4 * -(-blocks // NF4_NESTED) + _NESTED_TABLE_BYTES + offset * _OFFSET_BYTES
    return -(-elements // 2) + scales + _TABLE_BYTES
