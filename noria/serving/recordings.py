"""What of each endpoint's answers is written, and for how long: the policies that recorders and the keeper of the log follow."""

from __future__ import annotations

import msgspec

from noria.kernel.db import Database, Read
from noria.kernel.errors import Invalid
from noria.kernel.ids import check_name, new_id
from noria.kernel.op import Op
from noria.serving import store
from noria.serving.model import Recording, RecordingPolicy
from noria.serving.revisions import endpoint_ref

COLUMNS_MAX = 1_000
KEEP_DAYS_MIN, KEEP_DAYS_MAX = 1 / 24, 36_525
HOLD_LENGTH_MAX = 500


class Recordings:
    """See the module."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def read(self, op: Op, name: str) -> Recording:
        """What of an endpoint's answers is written; everything, unless somebody said otherwise. Raises Forbidden."""
        op.require("endpoint.read", endpoint_ref(name))
        with self._db.read() as tx:
            found = store.recordings(tx, endpoint=name)
        return found[0].recording if found else Recording()

    def all(self, tx: Read) -> dict[str, Recording]:
        """Every policy, for who deletes what has been kept long enough."""
        return {p.endpoint: p.recording for p in store.recordings(tx)}

    def change(self, op: Op, name: str, wanted: Recording) -> Recording:
        """Say what is written from now on; the endpoint may be still to come. What deletes needs the right to delete.

        Raises Invalid, Forbidden.
        """
        check_name(name, what="endpoint")
        op.require("endpoint.deploy", endpoint_ref(name))
        check_recording(wanted)
        before = self.read(op, name)
        if (before.keep_days, before.keep_rows, before.hold) != (wanted.keep_days, wanted.keep_rows, wanted.hold):
            op.require("endpoint.delete", endpoint_ref(name))
        with self._db.write(op) as tx:
            store.next_generation(tx)  # nodes ask for what is wanted when this has moved
            policy = RecordingPolicy(endpoint=name, recording=wanted, salt=new_id() + new_id())
            store.put_recording(tx, policy, at_ms=op.at_ms, actor=op.actor.label)
            tx.emit("recording.changed", endpoint_ref(name), **msgspec.to_builtins(wanted))
        return wanted


def check_recording(recording: Recording) -> Recording:
    """Raises Invalid for what means nothing."""
    if not 0 < recording.sample <= 1:
        raise Invalid("sample is a share above 0 and at most 1.", where="sample")
    if len(recording.columns) > COLUMNS_MAX:
        raise Invalid(f"At most {COLUMNS_MAX} columns have a rule of their own.", where="columns")
    if recording.keep_days is not None and not KEEP_DAYS_MIN <= recording.keep_days <= KEEP_DAYS_MAX:
        raise Invalid("keep_days is at least an hour (0.042) and at most a hundred years.", where="keep_days")
    if recording.keep_rows is not None and recording.keep_rows < 1:
        raise Invalid("keep_rows must be at least 1.", where="keep_rows", hint="To write nothing more, stop the endpoint.")
    if len(recording.hold) > HOLD_LENGTH_MAX:
        raise Invalid(f"The reason of a hold has at most {HOLD_LENGTH_MAX} characters.", where="hold")
    return recording
