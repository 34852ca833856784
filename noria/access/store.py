"""The rows of access."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.access.model import SESSION_IDLE_MS, Binding, Pending, Principal, Session, Token
from noria.access.rights_store import bump_epoch, epoch
from noria.kernel.db import Read, Write, js
from noria.kernel.ids import PrincipalId
from noria.kernel.naming import Noun, findable

findable(
    Noun(
        kind="principal", action="access.read",
        query="""select '' as scope, 'principal:' || id as ref, name as label,
                        case kind when 'service' then 'service account' else 'person' end as detail, created_at_ms as at_ms
                   from principal where kind <> 'group' and is_active""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="group", action="access.read",
        query="""select '' as scope, 'group:' || id as ref, name as label, 'team' as detail, created_at_ms as at_ms
                   from principal where kind = 'group' and is_active""",
    )
)  # fmt: skip

_PRINCIPAL_COLUMNS = "id, kind, name, is_active, created_at_ms"
_TOKEN_COLUMNS = "id, principal_id, name, created_at_ms, expires_at_ms, last_used_at_ms, actions, scopes"  # noqa: S105


class TokenRow(Struct, frozen=True, kw_only=True):
    """A token with what it takes to check it."""

    id: str
    principal_id: PrincipalId
    secret_sha256: str
    expires_at_ms: int | None
    actions: list[str]
    scopes: list[str]
    name: str
    created_at_ms: int
    on_behalf_of: str
    actor_kind: str
    actor_name: str


def users_count(tx: Read) -> int:
    return int(tx.scalar("select count(*) from principal where kind = 'user' and is_active"))


def principals(tx: Read, *, now_ms: int, limit: int = 1000) -> list[Principal]:
    """Users and service accounts by name, with the roles that they have themselves."""
    found = tx.all(
        Principal,
        f"select {_PRINCIPAL_COLUMNS} from principal where kind <> 'group' order by name limit :limit",
        limit=limit,
    )
    roles: dict[str, list[str]] = {}
    for row in tx.rows(
        """select principal_id, role from binding
            where scope = '' and (expires_at_ms is null or expires_at_ms > :now) order by role limit 10000""",
        now=now_ms,
    ):
        roles.setdefault(row["principal_id"], []).append(row["role"])
    return [_with_roles(p, roles.get(p.id, [])) for p in found]


def named(tx: Read, names: list[str]) -> list[Principal]:
    """Active users and service accounts of these names, without their roles."""
    return tx.all(
        Principal,
        f"select {_PRINCIPAL_COLUMNS} from principal where name in :names and is_active and kind <> 'group'",
        names=names,
    )


def principal(tx: Read, *, name: str = "", principal_id: str = "") -> Principal | None:
    found = tx.one(
        Principal,
        f"select {_PRINCIPAL_COLUMNS} from principal where name = :name or id = :id limit 1",
        name=name,
        id=principal_id,
    )
    return found and _with_roles(found, [b.role for b in bindings(tx, found.id) if not b.scope])


def _with_roles(principal: Principal, roles: list[str]) -> Principal:
    return Principal(
        id=principal.id, kind=principal.kind, name=principal.name, is_active=principal.is_active,
        created_at_ms=principal.created_at_ms, roles=roles,
    )  # fmt: skip


def password_hash(tx: Read, name: str) -> tuple[str, str] | None:
    """(id, hash) of an active user who has a password."""
    found = tx.rows(
        "select id, password_hash from principal where name = :name and kind = 'user' and is_active and password_hash != ''",
        name=name,
    )
    return (found[0]["id"], found[0]["password_hash"]) if found else None


def add_principal(tx: Write, principal: Principal, password_hash: str) -> None:
    tx.run(
        """insert into principal (id, kind, name, is_active, created_at_ms, password_hash)
           values (:id, :kind, :name, true, :at_ms, :password_hash)""",
        id=principal.id, kind=principal.kind, name=principal.name, at_ms=principal.created_at_ms, password_hash=password_hash,
    )  # fmt: skip


def set_password(tx: Write, principal_id: str, password_hash: str) -> None:
    tx.run("update principal set password_hash = :hash where id = :id", id=principal_id, hash=password_hash)


def disable(tx: Write, principal_id: str) -> None:
    """End a principal with every token and session it has."""
    tx.run("update principal set is_active = false where id = :id", id=principal_id)
    tx.run("delete from token where principal_id = :id", id=principal_id)
    tx.run("delete from session where principal_id = :id", id=principal_id)
    bump_epoch(tx)


def bindings(tx: Read, principal_id: str) -> list[Binding]:
    return tx.all(
        Binding,
        """select principal_id, role, scope, expires_at_ms, granted_by, reason
             from binding where principal_id = :id order by scope, role limit 10000""",
        id=principal_id,
    )  # fmt: skip


def bind(tx: Write, binding: Binding, *, at_ms: int) -> None:
    tx.run(
        """insert into binding (principal_id, role, scope, expires_at_ms, granted_by, reason, at_ms)
           values (:principal_id, :role, :scope, :expires, :granted_by, :reason, :at_ms)
           on conflict (principal_id, role, scope) do update
              set expires_at_ms = excluded.expires_at_ms, granted_by = excluded.granted_by, reason = excluded.reason""",
        principal_id=binding.principal_id, role=binding.role, scope=binding.scope, expires=binding.expires_at_ms,
        granted_by=binding.granted_by, reason=binding.reason, at_ms=at_ms,
    )  # fmt: skip
    bump_epoch(tx)


def unbind(tx: Write, principal_id: str, role: str, scope: str) -> int:
    removed = tx.run(
        "delete from binding where principal_id = :id and role = :role and scope = :scope",
        id=principal_id, role=role, scope=scope,
    )  # fmt: skip
    bump_epoch(tx)
    return removed


def add_token(tx: Write, token: Token, *, secret_sha256: str, on_behalf_of: str, actor_kind: str, actor_name: str) -> None:
    tx.run(
        """insert into token (id, principal_id, name, created_at_ms, expires_at_ms, actions, scopes, secret_sha256,
                              on_behalf_of, actor_kind, actor_name)
           values (:id, :principal_id, :name, :at_ms, :expires, :actions, :scopes, :sha, :on_behalf_of, :actor_kind, :actor_name)""",
        id=token.id, principal_id=token.principal_id, name=token.name, at_ms=token.created_at_ms,
        expires=token.expires_at_ms, actions=js(token.actions), scopes=js(token.scopes), sha=secret_sha256, on_behalf_of=on_behalf_of,
        actor_kind=actor_kind, actor_name=actor_name,
    )  # fmt: skip


def token_row(tx: Read, token_id: str) -> TokenRow | None:
    return tx.one(
        TokenRow,
        """select id, principal_id, secret_sha256, expires_at_ms, actions, scopes, name, created_at_ms, on_behalf_of, actor_kind, actor_name
             from token where id = :id""",
        id=token_id,
    )  # fmt: skip


def token_rows(tx: Read, now_ms: int, *, limit: int = 20_000) -> list[TokenRow]:
    """Every token that is still valid, with its hash."""
    return tx.all(
        TokenRow,
        """select id, principal_id, secret_sha256, expires_at_ms, actions, scopes, name, created_at_ms, on_behalf_of, actor_kind, actor_name
             from token where expires_at_ms is null or expires_at_ms > :now order by id limit :limit""",
        now=now_ms, limit=limit,
    )  # fmt: skip


def tokens_mark(tx: Read) -> str:
    """Changes when tokens are made or end, and when rights change."""
    row = tx.rows(
        "select count(*) as n, coalesce(max(created_at_ms), 0) as newest, coalesce(max(id), '') as last from token"
    )[0]
    return f"{epoch(tx)}.{row['n']}.{row['newest']}.{row['last']}"


def tokens(tx: Read, principal_id: str | None) -> list[Token]:
    """Listed tokens of one principal, or of all; short-lived internal ones are left out."""
    where = "and principal_id = :id" if principal_id else ""
    args: dict[str, Any] = {"id": principal_id} if principal_id else {}
    return tx.all(
        Token,
        f"select {_TOKEN_COLUMNS} from token where actor_kind = '' {where} order by created_at_ms desc limit 1000",
        **args,
    )


def end_token(tx: Write, token_id: str, at_ms: int) -> None:
    """Let a token expire at a time, unless it does so before."""
    tx.run(
        "update token set expires_at_ms = :at_ms where id = :id and (expires_at_ms is null or expires_at_ms > :at_ms)",
        id=token_id, at_ms=at_ms,
    )  # fmt: skip


def narrow_token(tx: Write, token_id: str, actions: list[str]) -> int:
    return tx.run("update token set actions = :actions where id = :id", id=token_id, actions=js(actions))


def remove_token(tx: Write, token_id: str) -> int:
    return tx.run("delete from token where id = :id", id=token_id)


def remove_expired(tx: Write, now_ms: int) -> None:
    tx.run("delete from token where expires_at_ms is not null and expires_at_ms < :now", now=now_ms - 7 * 86_400_000)
    tx.run("delete from session where expires_at_ms < :now", now=now_ms)


def touch_token(tx: Write, token_id: str, at_ms: int) -> None:
    tx.run("update token set last_used_at_ms = :at_ms where id = :id", id=token_id, at_ms=at_ms)


def add_session(tx: Write, sha: str, principal_id: str, *, at_ms: int, expires_at_ms: int, method: str, agent: str) -> None:
    tx.run(
        """insert into session (secret_sha256, principal_id, created_at_ms, seen_at_ms, expires_at_ms, method, agent)
           values (:sha, :principal_id, :at_ms, :at_ms, :expires, :method, :agent)""",
        sha=sha, principal_id=principal_id, at_ms=at_ms, expires=expires_at_ms, method=method, agent=agent,
    )  # fmt: skip


def sessions(tx: Read, *, principal_id: str | None, now_ms: int, limit: int = 1000) -> list[Session]:
    """Sessions that have not ended, of one user or of all, the latest first."""
    where, args = ("and s.principal_id = :id", {"id": principal_id}) if principal_id else ("", {})
    return tx.all(
        Session,
        f"""select substr(s.secret_sha256, 1, 16) as id, p.name as principal, s.method, s.agent, s.created_at_ms, s.seen_at_ms,
                   s.expires_at_ms
              from session s join principal p on p.id = s.principal_id
             where s.expires_at_ms > :now and s.seen_at_ms > :seen {where} order by s.seen_at_ms desc limit :limit""",
        now=now_ms, seen=now_ms - SESSION_IDLE_MS, limit=limit, **args,
    )  # fmt: skip


def session_by_id(tx: Read, session_id: str) -> tuple[str, str] | None:
    """(hash, principal) of the session that is listed by this id."""
    rows = tx.tuples(
        "select secret_sha256, principal_id from session where substr(secret_sha256, 1, 16) = :id limit 1", id=session_id
    )
    return (rows[0][0], rows[0][1]) if rows else None


def end_sessions(tx: Write, principal_id: str) -> int:
    return tx.run("delete from session where principal_id = :id", id=principal_id)


# --- identities -------------------------------------------------------------------------------------------------------


def identity(tx: Read, issuer: str, subject: str) -> str | None:
    found = tx.scalar(
        "select principal_id from identity where issuer = :issuer and subject = :subject", issuer=issuer, subject=subject
    )
    return None if found is None else str(found)


def add_identity(tx: Write, issuer: str, subject: str, principal_id: str, at_ms: int) -> None:
    tx.run(
        "insert into identity (issuer, subject, principal_id, at_ms) values (:issuer, :subject, :principal_id, :at_ms)",
        issuer=issuer, subject=subject, principal_id=principal_id, at_ms=at_ms,
    )  # fmt: skip


def groups_of(tx: Read, principal_id: str, source: str) -> list[Principal]:
    """The groups that `source` put somebody into."""
    return tx.all(
        Principal,
        """select p.id, p.kind, p.name, p.is_active, p.created_at_ms
             from membership m join principal p on p.id = m.group_id
            where m.member_id = :id and m.source = :source order by p.name limit 10000""",
        id=principal_id, source=source,
    )  # fmt: skip


def add_pending(tx: Write, state_sha256: str, pending: Pending) -> None:
    tx.run(
        """insert into sign_in (state_sha256, browser_sha256, nonce, verifier, next, expires_at_ms)
           values (:state, :browser, :nonce, :verifier, :next, :expires)""",
        state=state_sha256, browser=pending.browser_sha256, nonce=pending.nonce, verifier=pending.verifier, next=pending.next,
        expires=pending.expires_at_ms,
    )  # fmt: skip


def take_pending(tx: Write, state_sha256: str) -> Pending | None:
    """The sign-in of this state, which is gone afterwards: of two who come with it, one gets it."""
    return tx.one(
        Pending,
        "delete from sign_in where state_sha256 = :state returning browser_sha256, nonce, verifier, next, expires_at_ms",
        state=state_sha256,
    )


def pending_count(tx: Read) -> int:
    return int(tx.scalar("select count(*) from sign_in"))


def remove_old_pending(tx: Write, now_ms: int) -> None:
    tx.run("delete from sign_in where expires_at_ms < :now", now=now_ms)


def session(tx: Read, sha: str) -> dict[str, Any] | None:
    found = tx.rows(
        "select principal_id, created_at_ms, seen_at_ms, expires_at_ms, method from session where secret_sha256 = :sha",
        sha=sha,
    )
    return found[0] if found else None


def touch_session(tx: Write, sha: str, at_ms: int) -> None:
    tx.run("update session set seen_at_ms = :at_ms where secret_sha256 = :sha", sha=sha, at_ms=at_ms)


def remove_session(tx: Write, sha: str) -> int:
    return tx.run("delete from session where secret_sha256 = :sha", sha=sha)


def setup_code(tx: Read) -> str | None:
    found = tx.scalar("select code_sha256 from setup where id = 1")
    return None if found is None else str(found)


def set_setup_code(tx: Write, sha: str) -> None:
    tx.run(
        "insert into setup (id, code_sha256) values (1, :sha) on conflict (id) do update set code_sha256 = excluded.code_sha256",
        sha=sha,
    )


def remove_setup_code(tx: Write) -> None:
    tx.run("delete from setup")


def who_has(tx: Read, roles: list[str], now_ms: int, *, limit: int) -> list[str]:
    """People who have one of `roles` on the whole workspace, themselves or by their groups, by name."""
    rows = tx.rows(
        """with recursive held(id) as (
               select principal_id from binding
                where scope = '' and role in :roles and (expires_at_ms is null or expires_at_ms > :now)
               union
               select m.member_id
                 from membership m
                 join held on held.id = m.group_id
                 join principal g on g.id = m.group_id and g.is_active)
           select name from principal where kind = 'user' and is_active and id in (select id from held) order by name limit :limit""",
        roles=roles, now=now_ms, limit=limit,
    )  # fmt: skip
    return [row["name"] for row in rows]
