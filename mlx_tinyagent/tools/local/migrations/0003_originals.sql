-- What an imported row's file said, verbatim: written back when the row is exported.

CREATE TABLE originals (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('contact', 'event', 'reminder', 'mail', 'draft', 'note')),
  row_id INTEGER NOT NULL,
  uid TEXT NOT NULL,
  text TEXT NOT NULL,
  UNIQUE (kind, row_id),
  UNIQUE (kind, uid)
) STRICT;

CREATE TRIGGER contacts_original_delete AFTER DELETE ON contacts BEGIN
  DELETE FROM originals WHERE kind = 'contact' AND row_id = old.id;
END;
CREATE TRIGGER events_original_delete AFTER DELETE ON events BEGIN
  DELETE FROM originals WHERE kind = 'event' AND row_id = old.id;
END;
CREATE TRIGGER reminders_original_delete AFTER DELETE ON reminders BEGIN
  DELETE FROM originals WHERE kind = 'reminder' AND row_id = old.id;
END;
CREATE TRIGGER mails_original_delete AFTER DELETE ON mails BEGIN
  DELETE FROM originals WHERE kind = 'mail' AND row_id = old.id;
END;
CREATE TRIGGER drafts_original_delete AFTER DELETE ON drafts BEGIN
  DELETE FROM originals WHERE kind = 'draft' AND row_id = old.id;
END;
CREATE TRIGGER notes_original_delete AFTER DELETE ON notes BEGIN
  DELETE FROM originals WHERE kind = 'note' AND row_id = old.id;
END;
