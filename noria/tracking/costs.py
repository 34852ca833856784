"""What runs took: hours and money, by who and by experiment. Money is what runs logged as `system/cost` (NORIA_PRICE_PER_HOUR)."""

from __future__ import annotations

from msgspec import Struct

from noria.kernel.db import Database, Read
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.tracking.sight import visible

EXPERIMENTS_MAX = 500
DAYS_MAX = 3_660
DAY_MS = 86_400_000
GROUPS_MAX = 1_000  # of who and experiment; the largest are kept
COST_KEY = "system/cost"


class Spent(Struct, frozen=True, kw_only=True):
    """What the runs of one person in one experiment took. `priced_count`: how many of them knew their price."""

    experiment_id: str
    user: str
    runs_count: int
    hours: float
    cost: float
    priced_count: int


class Costs:
    """Reads what runs took."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def spent(self, op: Op, *, experiments: list[str], days: int) -> list[Spent]:
        """Of runs that began in the last `days` days, in these experiments (none: all one may read), the costliest first.

        A run that still runs counts until now. Raises Invalid.
        """
        if len(experiments) > EXPERIMENTS_MAX:
            raise Invalid(f"At most {EXPERIMENTS_MAX} experiments are added up at once.", where="experiments")
        if not 1 <= days <= DAYS_MAX:
            raise Invalid(f"days must be between 1 and {DAYS_MAX}.", where="days")
        seen = visible(op, "run.read")
        wanted = seen if not experiments else [e for e in experiments if seen is None or e in seen]
        with self._db.read() as tx:
            return _spent(tx, op.workspace, wanted, since_ms=op.at_ms - days * DAY_MS, now_ms=op.at_ms)


def _spent(tx: Read, workspace: str, experiments: list[str] | None, *, since_ms: int, now_ms: int) -> list[Spent]:
    if experiments == []:
        return []
    where, args = ("", {}) if experiments is None else ("and r.experiment_id in :experiments", {"experiments": experiments})
    return tx.all(
        Spent,
        f"""select r.experiment_id, coalesce(r.user_name, '') as "user", count(*) as runs_count,
                   sum(coalesce(r.ended_at_ms, :now) - r.started_at_ms) / 3600000.0 as hours,
                   coalesce(sum(case when s.is_nan then 0 else s.value end), 0) as cost, count(s.value) as priced_count
              from run r left join series s on s.run_id = r.id and s.key = :key
             where r.workspace = :workspace and r.stage = 'active' and r.started_at_ms >= :since {where}
             group by r.experiment_id, coalesce(r.user_name, '')
             order by cost desc, hours desc, r.experiment_id limit :limit""",
        workspace=workspace, key=COST_KEY, since=since_ms, now=now_ms, limit=GROUPS_MAX, **args,
    )  # fmt: skip
