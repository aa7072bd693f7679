"""Splits of the keys and tile sizes for a call. Only numbers: Triton is not imported."""

import functools
from typing import NamedTuple

# Overhead of a program for reading queries and writing its part, about the time of one tile of keys.
_TILES_TO_BEGIN_AND_END = 1
_MOST_WAVES = 4  # more would only add the overhead of each program
# Parts, counted in rows of queries, that one program reads as fast as a second kernel could be started.
_MOST_FOLDED_ROWS = 256
# Rows of queries that the decode kernel holds: in half precision, and in fp32, whose products need more registers.
_MOST_ROWS_HALF, _MOST_ROWS_FULL = 64, 32
_ROWS_AT_A_TIME = 32  # rows of parts in the registers of the program that weighs them


class DecodePlan(NamedTuple):
    """How the keys are split, and how the splits' parts are put together.

    `folded` is whether the last program of a group does that; it takes `fold_splits` parts of `fold_rows` rows at
    a time.
    """

    n_splits: int
    folded: bool
    fold_rows: int
    fold_splits: int


@functools.lru_cache(maxsize=4096)
def decode_plan(groups: int, rows: int, tiles: int, slots: int, n_splits: int | None = None) -> DecodePlan:
    """The plan for so many groups of heads, rows of queries in each, tiles of keys and programs at once.

    >>> decode_plan(groups=8, rows=8, tiles=64, slots=264)
    DecodePlan(n_splits=32, folded=True, fold_rows=8, fold_splits=4)
    """
    n_splits = n_splits or choose_splits(groups, tiles, slots)
    fold_rows = power_of_2(rows)
    folded = n_splits > 1 and n_splits * fold_rows <= _MOST_FOLDED_ROWS
    at_a_time = max(1, min(power_of_2(n_splits), _ROWS_AT_A_TIME // (fold_rows if folded else 1)))
    return DecodePlan(n_splits, folded, fold_rows, at_a_time)


def takes_decode(group: int, new_tokens: int, half: bool) -> bool:
    """Whether the decode kernel supports so many rows of queries; the call is then bound by reading K and V.

    >>> takes_decode(group=8, new_tokens=1, half=True), takes_decode(group=8, new_tokens=9, half=True)
    (True, False)
    """
    return group * new_tokens <= (_MOST_ROWS_HALF if half else _MOST_ROWS_FULL)


class DecodeTile(NamedTuple):
    """A tile of the decode kernel: keys, and the warps and stages of loads that work on it."""

    key_tile: int
    num_warps: int
    num_stages: int


def decode_tile(rows: int, padded_dim: int, half: bool) -> DecodeTile:
    """As many keys on their way as registers and shared memory have room for: `make kernels` compiles them.

    >>> decode_tile(rows=16, padded_dim=128, half=True)
    DecodeTile(key_tile=64, num_warps=4, num_stages=3)
    """
    if not half:
        return DecodeTile(32 if rows <= 16 else 16, 8, 3)
    if rows * padded_dim > 64 * 128:
        return DecodeTile(32, 8, 3)
    return DecodeTile(64, 4, 3)


def choose_splits(groups: int, tiles: int, slots: int) -> int:
    """The number of parts of whole tiles to cut the keys into: the one that is done first, the smallest of equal ones.

    `groups` programs per split run in waves of `slots`, and each takes the same number of the `tiles`, rounded up.

    >>> choose_splits(groups=8, tiles=64, slots=264), choose_splits(groups=256, tiles=64, slots=264)
    (32, 1)
    """
    best = (waves(groups, slots) * (tiles + _TILES_TO_BEGIN_AND_END), 1)
    for share in range(tiles, 0, -1):
        splits = -(-tiles // share)
        if splits > 1 and waves(groups * splits, slots) > _MOST_WAVES:
            break
        best = min(best, (waves(groups * splits, slots) * (share + _TILES_TO_BEGIN_AND_END), splits))
    return best[1]


def waves(programs: int, slots: int) -> int:
    """How many times the chip fills with programs, the last time perhaps not whole.

    >>> waves(265, 264)
    2
    """
    return -(-programs // slots)


def power_of_2(n: int) -> int:
    """The least power of two that is not below n.

    >>> [power_of_2(n) for n in (1, 3, 8)]
    [1, 4, 8]
    """
    return 1 << (n - 1).bit_length()


class Tile(NamedTuple):
    """A tile of the prefill kernel: queries and keys, and the warps and stages of loads that work on it."""

    query_tile: int
    key_tile: int
    num_warps: int
    num_stages: int


# What is worth trying in half precision, by padded head dim and by how the chip multiplies: warps (8), groups of
# warps (9), tensor memory (10). Each fits shared memory and spills no register: `make kernels` compiles them all.
_HALF_TILES: dict[int, dict[int, tuple[Tile, ...]]] = {
    64: {
        8: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 4), Tile(64, 64, 4, 3)),
        9: (Tile(128, 128, 8, 2), Tile(128, 64, 8, 3), Tile(128, 64, 8, 4), Tile(64, 64, 4, 3)),
        10: (Tile(128, 128, 8, 2), Tile(64, 64, 4, 3)),
    },
    128: {
        8: (Tile(128, 32, 8, 3), Tile(64, 32, 4, 3), Tile(64, 64, 4, 2)),
        9: (Tile(128, 128, 8, 2), Tile(128, 64, 8, 3), Tile(128, 64, 8, 4), Tile(64, 64, 4, 3)),
        10: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 4), Tile(64, 64, 4, 3)),
    },
    256: {
        8: (Tile(64, 64, 8, 2), Tile(32, 32, 4, 2)),
        9: (Tile(128, 32, 8, 2), Tile(64, 64, 8, 2), Tile(64, 32, 8, 2)),
        10: (Tile(64, 64, 8, 2), Tile(64, 32, 8, 2)),
    },
}


# The same where the chip's copy engine brings the tiles: no addresses in registers, so more stages fit.
_DESCRIBED_TILES: dict[int, dict[int, tuple[Tile, ...]]] = {
    64: {
        9: (Tile(128, 128, 8, 3), Tile(128, 128, 8, 2), Tile(128, 64, 8, 4), Tile(64, 64, 4, 3)),
        10: (Tile(128, 128, 8, 3), Tile(128, 128, 8, 2), Tile(128, 64, 4, 3)),
    },
    128: {
        9: (Tile(128, 128, 8, 3), Tile(128, 128, 8, 2), Tile(128, 64, 8, 4), Tile(64, 64, 4, 3)),
        10: (Tile(128, 128, 8, 2), Tile(128, 64, 8, 3), Tile(128, 64, 8, 4)),
    },
    256: {
        9: (Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(64, 32, 8, 3)),
        10: (Tile(128, 64, 8, 2),),  # Triton 3.6 gives tiles of 64 queries a stack
    },
}


def half_tiles(padded_dim: int, capability: int, described: bool = False) -> tuple[Tile, ...]:
    """The tiles to try for a head dim padded to a power of two on sm_`capability`, brought by descriptors or not.

    >>> half_tiles(256, 80)[0]
    Tile(query_tile=64, key_tile=64, num_warps=8, num_stages=2)
    """
    of_the_dim = (_DESCRIBED_TILES if described else _HALF_TILES)[max(64, padded_dim)]
    # 12: a workstation's chip multiplies by warps
    return of_the_dim.get(capability // 10, of_the_dim[9 if described else 8])


def all_half_tiles(described: bool = False) -> tuple[Tile, ...]:
    """Every tile of the table, once."""
    table = _DESCRIBED_TILES if described else _HALF_TILES
    return tuple(dict.fromkeys(tile for by_chip in table.values() for tiles in by_chip.values() for tile in tiles))


class SpecialisedTile(NamedTuple):
    """A tile of the form with specialised warps: queries, keys, places in the rings of tiles, warps that multiply."""

    query_tile: int
    key_tile: int
    stages: int
    num_warps: int


def specialised_tile(head_dim: int) -> SpecialisedTile | None:
    """Its tile for heads of that size; None where it has none.

    >>> specialised_tile(128), specialised_tile(80)
    (SpecialisedTile(query_tile=128, key_tile=64, stages=3, num_warps=8), None)
    """
    return {64: SpecialisedTile(128, 128, 3, 8), 128: SpecialisedTile(128, 64, 3, 8)}.get(head_dim)


def full_tile(padded_dim: int) -> Tile:
    """The tile in fp32, for correct results rather than speed: products without tensor cores."""
    return Tile(64 if padded_dim <= 64 else 32, 16, 8, 2)
