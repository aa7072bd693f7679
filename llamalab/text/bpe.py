"""Byte-pair encoding by score: of all neighbours that join into a piece,
the pair with the highest score is joined first, and among equals the leftmost.

A heap holds the candidates, so that n characters take O(n log n); a linked list holds the parts.
Source: Sennrich et al. 2016 (arXiv 1508.07909); order of merges as in sentencepiece, bpe_model.cc.
"""

import heapq
from collections.abc import Callable

_GONE = ""


class _Parts:
    """Parts in a doubly linked list; a part that was joined to its left neighbour is empty."""

    def __init__(self, text: str) -> None:
        self.parts = list(text)
        self.after = [*range(1, len(text)), -1]
        self.before = list(range(-1, len(text) - 1))

    def join(self, left: int, right: int) -> None:
        self.parts[left] += self.parts[right]
        self.parts[right] = _GONE
        beyond = self.after[left] = self.after[right]
        if beyond != -1:
            self.before[beyond] = left


def merge(text: str, score: Callable[[str], float | None]) -> list[str]:
    """Split a text into pieces; `score` gives a piece's rank, None for what is no piece.

    Characters stay as they are where no pair of neighbours is a piece.

    >>> merge("banana", {"an": 1.0, "na": 2.0, "ana": 0.0}.get)
    ['b', 'ana', 'na']
    """
    line = _Parts(text)
    heap: list[tuple[float, int, int, int]] = []

    def consider(left: int, right: int) -> None:
        if left == -1 or right == -1:
            return
        joined = line.parts[left] + line.parts[right]
        rank = score(joined)
        if rank is not None:
            heapq.heappush(heap, (-rank, left, right, len(joined)))

    for right in range(1, len(text)):
        consider(right - 1, right)
    while heap:
        _, left, right, length = heapq.heappop(heap)
        # Either side may have grown or gone since; its new pairs are in the heap on their own.
        if not line.parts[left] or not line.parts[right] or len(line.parts[left]) + len(line.parts[right]) != length:
            continue
        line.join(left, right)
        consider(line.before[left], left)
        consider(left, line.after[left])
    return [part for part in line.parts if part]
