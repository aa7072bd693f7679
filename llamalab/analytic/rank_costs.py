"""Seconds of a pass on several ranks outside its rows, from a calibration of ranks side by side."""

from llamalab.startup.hints import Any, NamedTuple


class RankCosts(NamedTuple):
    """Seconds of waiting for other ranks per second of own work, and of own work per collective after it."""

    waiting_share: float = 0.0
    resuming_s: float = 0.0

    @classmethod
    def of(cls, constants: dict[str, Any] | None) -> "RankCosts":
        """The costs in a file of constants; 0 in one of a single process, and where older ones lack them.

        >>> RankCosts.of({"ranks": 2, "waiting_share": 0.1})
        RankCosts(waiting_share=0.1, resuming_s=0.0)
        """
        return cls(*(float((constants or {}).get(name, 0.0)) for name in cls._fields))

    def own_s(self, rows_s: float, collectives: int) -> float:
        """A rank's own work, with so many seconds in rows.

        >>> RankCosts(0.0, 0.25).own_s(3.0, collectives=4)
        4.0
        """
        return rows_s + collectives * self.resuming_s

    def waiting_s(self, own_s: float) -> float:
        """Waiting for ranks with the same work.

        >>> RankCosts(0.25).waiting_s(4.0)
        1.0
        """
        return self.waiting_share * own_s
