"""How much of everything there may be, and why."""

from __future__ import annotations

SECRETS_PER_STEP = 50
STEPS_MAX = 1_000  # per run; a page still draws it, and a submit stays one short transaction
RETRIES_MAX = 20
LOST_MAX = 5  # a step whose worker vanished this often is taken for the cause
RETRY_DELAY_MAX_S = 300.0
INLINE_BYTES_MAX = 64 << 10  # a JSON value beyond this travels as a blob
LOG_BYTES_MAX = 8 << 20  # per attempt; what is printed beyond it is dropped, and the log says so
LOG_PAGE_BYTES = 256 << 10
PARAMS_BYTES_MAX = 256 << 10
PROMPT_LENGTH_MAX = 1_000
ANSWER_S_MAX = 90 * 86_400  # how long a step may wait for people, as long as an approval may
QUEUES_MAX = 200
WAITING_MAX = 1_000  # runs of a pipeline that wait for others of it to end; more are passed over
CONCURRENCY_MAX = 1_000
FILES_MAX = 10_000  # that a trigger looks at
HOOK_BYTES_MAX = 64 << 10  # a message becomes a fact, and facts are kept for ever
BACKFILL_PARTS_MAX = 5_000
BACKFILL_PARALLEL_MAX = 100
