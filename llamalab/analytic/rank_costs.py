"""What a pass on several ranks takes beside its rows, as a calibration of ranks side by side found it."""

from llamalab.startup.hints import Any, NamedTuple


class RankCosts(NamedTuple):
    """Seconds of waiting for other ranks per second of own work, and of own work for each collective after it."""

    waiting_share: float = 0.0
    resuming_s: float = 0.0

    @classmethod
    def of(cls, constants: dict[str, Any] | None) -> "RankCosts":
        """Those of a file of constants; none in one of a process alone, and in older ones those that it has.

        >>> RankCosts.of({"ranks": 2, "waiting_share": 0.1})
        RankCosts(waiting_share=0.1, resuming_s=0.0)
        """
        return cls(*(float((constants or {}).get(name, 0.0)) for name in cls._fields))

    def own_s(self, rows_s: float, collectives: int) -> float:
        """A rank's own work where its rows take so long.

        >>> RankCosts(0.0, 0.25).own_s(3.0, collectives=4)
        4.0
        """
        return rows_s + collectives * self.resuming_s

    def waiting_s(self, own_s: float) -> float:
        """Waiting for ranks that do the same work.

        >>> RankCosts(0.25).waiting_s(4.0)
        1.0
        """
        return self.waiting_share * own_s
