"""kernel: facts, cursors, edges, jobs."""

from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "event",
        integer("seq", primary_key=True, autoincrement=False),
        at_ms("at_ms"), text("kind"), ident("subject"), text("actor"), ident("op_id"),
        integer("cause", nullable=True), ident("workspace"), json("data"),
    )  # fmt: skip
    op.create_index("event_subject", "event", ["subject", "seq"])
    op.create_index("event_kind", "event", ["kind", "seq"])
    _append_only("event")
    op.create_table("event_cursor", text("name", primary_key=True), integer("seq"))
    op.create_table(
        "edge",
        ident("src", primary_key=True), text("kind", primary_key=True), ident("dst", primary_key=True),
        boolean("protects"), at_ms("at_ms"),
    )  # fmt: skip
    op.create_index("edge_dst", "edge", ["dst", "kind"])
    op.create_table(
        "job",
        ident("id", primary_key=True), text("kind"), ident("subject"), json("args"), text("state"),
        integer("attempts"), integer("fence"), at_ms("created_at_ms"), at_ms("due_at_ms"),
        at_ms("lease_until_ms", nullable=True), text("unique_key", unique=True), text("error"),
    )  # fmt: skip
    op.create_index("job_due", "job", ["state", "due_at_ms"])
    op.create_table("job_step", ident("job_id", primary_key=True), text("name", primary_key=True), json("result"))


def _append_only(table: str) -> None:
    """Facts are never changed nor removed, whoever holds the connection."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(
                f"create trigger {table}_no_{verb} before {verb} on {table} "
                f"begin select raise(abort, '{table} rows are never changed'); end"
            )
        return
    op.execute(
        f"""create function {table}_refuse() returns trigger language plpgsql as
            $$ begin raise exception '{table} rows are never changed'; end $$"""
    )
    op.execute(
        f"create trigger {table}_append_only before update or delete on {table} for each row execute function {table}_refuse()"
    )
    op.execute(
        f"create trigger {table}_no_truncate before truncate on {table} for each statement execute function {table}_refuse()"
    )
