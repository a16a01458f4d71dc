-- The journal is append-only and hash-chained; the outbox holds what is to be sent for good.

CREATE TABLE journal (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL, -- UTC, ISO 8601
  run INTEGER NOT NULL, -- seq of the run's first entry
  step INTEGER NOT NULL, -- 0 for the run itself
  kind TEXT NOT NULL CHECK (kind IN ('plan', 'resume', 'intent', 'effect', 'outcome', 'end', 'undo')),
  status TEXT NOT NULL DEFAULT '',
  key TEXT NOT NULL DEFAULT '', -- idempotency key of the step
  summary TEXT NOT NULL DEFAULT '', -- for people
  details TEXT NOT NULL DEFAULT '{}', -- JSON: what resume and undo need
  previous TEXT NOT NULL, -- hash of the entry before
  hash TEXT NOT NULL
) STRICT;

CREATE INDEX journal_by_run ON journal (run, seq);

CREATE TRIGGER journal_is_not_changed BEFORE UPDATE ON journal BEGIN
  SELECT RAISE(ABORT, 'the journal is append-only');
END;
CREATE TRIGGER journal_is_not_cut BEFORE DELETE ON journal BEGIN
  SELECT RAISE(ABORT, 'the journal is append-only');
END;

CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE, -- carried by the message, to find it again
  kind TEXT NOT NULL CHECK (kind IN ('mail', 'message')),
  payload TEXT NOT NULL, -- JSON
  due TEXT NOT NULL, -- UTC, ISO 8601: not sent before
  state TEXT NOT NULL DEFAULT 'waiting'
    CHECK (state IN ('waiting', 'sending', 'sent', 'recalled', 'failed', 'unknown')),
  reason TEXT NOT NULL DEFAULT ''
) STRICT;
