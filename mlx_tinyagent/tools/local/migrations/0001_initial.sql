-- Ids come from AUTOINCREMENT: a key that was once shown is never given to another row.
-- ON DELETE CASCADE marks parts of their parent; every other foreign key is a link.

PRAGMA application_id = 1296847937;

CREATE TABLE settings (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

CREATE TABLE contacts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  company TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE contact_emails (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  contact_id INTEGER NOT NULL REFERENCES contacts ON DELETE CASCADE,
  position INTEGER NOT NULL,
  email TEXT NOT NULL,
  UNIQUE (contact_id, position)
) STRICT;

CREATE TABLE contact_phones (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  contact_id INTEGER NOT NULL REFERENCES contacts ON DELETE CASCADE,
  position INTEGER NOT NULL,
  phone TEXT NOT NULL,
  UNIQUE (contact_id, position)
) STRICT;

CREATE TABLE contact_nicknames (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  contact_id INTEGER NOT NULL REFERENCES contacts ON DELETE CASCADE,
  position INTEGER NOT NULL,
  nickname TEXT NOT NULL,
  UNIQUE (contact_id, position)
) STRICT;

CREATE TABLE calendars (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  calendar_id INTEGER NOT NULL REFERENCES calendars,
  title TEXT NOT NULL,
  starts TEXT NOT NULL,
  ends TEXT NOT NULL,
  location TEXT NOT NULL DEFAULT '',
  notes TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE event_invitees (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id INTEGER NOT NULL REFERENCES events ON DELETE CASCADE,
  position INTEGER NOT NULL,
  email TEXT NOT NULL,
  UNIQUE (event_id, position)
) STRICT;

CREATE TABLE reminder_lists (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE reminders (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  list_id INTEGER NOT NULL REFERENCES reminder_lists,
  name TEXT NOT NULL,
  due TEXT NOT NULL DEFAULT '', -- local ISO 8601, a date alone when all_day, '' when open
  all_day INTEGER NOT NULL DEFAULT 0 CHECK (all_day IN (0, 1)),
  priority INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN 0 AND 9),
  notes TEXT NOT NULL DEFAULT '',
  done INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1))
) STRICT;

CREATE TABLE note_folders (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE notes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  folder_id INTEGER NOT NULL REFERENCES note_folders,
  name TEXT NOT NULL,
  body TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE mails (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sender TEXT NOT NULL,
  sender_name TEXT NOT NULL,
  subject TEXT NOT NULL,
  body TEXT NOT NULL,
  received TEXT NOT NULL
) STRICT;

CREATE TABLE drafts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('new', 'reply', 'forward')),
  source_id INTEGER REFERENCES mails,
  subject TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE draft_recipients (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  draft_id INTEGER NOT NULL REFERENCES drafts ON DELETE CASCADE,
  position INTEGER NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('to', 'cc')),
  email TEXT NOT NULL,
  UNIQUE (draft_id, position)
) STRICT;

CREATE TABLE draft_attachments (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  draft_id INTEGER NOT NULL REFERENCES drafts ON DELETE CASCADE,
  position INTEGER NOT NULL,
  path TEXT NOT NULL,
  UNIQUE (draft_id, position)
) STRICT;

CREATE TABLE outbox_messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  state TEXT NOT NULL CHECK (state IN ('queued, no gateway')),
  text TEXT NOT NULL
) STRICT;

CREATE TABLE outbox_recipients (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  message_id INTEGER NOT NULL REFERENCES outbox_messages ON DELETE CASCADE,
  position INTEGER NOT NULL,
  phone TEXT NOT NULL,
  UNIQUE (message_id, position)
) STRICT;

CREATE TABLE meetings (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  topic TEXT NOT NULL,
  starts TEXT NOT NULL,
  minutes INTEGER NOT NULL CHECK (minutes > 0),
  url TEXT NOT NULL
) STRICT;

CREATE TABLE meeting_invitees (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  meeting_id INTEGER NOT NULL REFERENCES meetings ON DELETE CASCADE,
  position INTEGER NOT NULL,
  email TEXT NOT NULL,
  UNIQUE (meeting_id, position)
) STRICT;

CREATE TABLE roots (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  path TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE files (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  path TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  size INTEGER NOT NULL,
  modified TEXT NOT NULL,
  stamp INTEGER NOT NULL DEFAULT 0, -- modification time in nanoseconds, to notice changes
  embedded INTEGER NOT NULL DEFAULT 0 CHECK (embedded IN (0, 1)), -- text is all there is: no file on disk
  pages INTEGER NOT NULL DEFAULT 0,
  text TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE opened (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('file', 'url')),
  target TEXT NOT NULL
) STRICT;

CREATE INDEX contact_emails_by_email ON contact_emails (email);
CREATE INDEX events_by_start ON events (starts);
CREATE INDEX mails_by_time ON mails (received);

-- One full-text table; its rowid is 4 * id + kind: 0 note, 1 mail, 2 event, 3 file.
CREATE VIRTUAL TABLE search USING fts5 (title, body, tokenize = 'unicode61 remove_diacritics 2');

CREATE TRIGGER notes_search_insert AFTER INSERT ON notes BEGIN
  INSERT INTO search (rowid, title, body) VALUES (4 * new.id, new.name, new.body);
END;
CREATE TRIGGER notes_search_update AFTER UPDATE ON notes BEGIN
  UPDATE search SET title = new.name, body = new.body WHERE rowid = 4 * new.id;
END;
CREATE TRIGGER notes_search_delete AFTER DELETE ON notes BEGIN
  DELETE FROM search WHERE rowid = 4 * old.id;
END;

CREATE TRIGGER mails_search_insert AFTER INSERT ON mails BEGIN
  INSERT INTO search (rowid, title, body)
  VALUES (4 * new.id + 1, new.subject || ' ' || new.sender_name, new.body);
END;
CREATE TRIGGER mails_search_update AFTER UPDATE ON mails BEGIN
  UPDATE search SET title = new.subject || ' ' || new.sender_name, body = new.body
  WHERE rowid = 4 * new.id + 1;
END;
CREATE TRIGGER mails_search_delete AFTER DELETE ON mails BEGIN
  DELETE FROM search WHERE rowid = 4 * old.id + 1;
END;

CREATE TRIGGER events_search_insert AFTER INSERT ON events BEGIN
  INSERT INTO search (rowid, title, body)
  VALUES (4 * new.id + 2, new.title, new.location || ' ' || new.notes);
END;
CREATE TRIGGER events_search_update AFTER UPDATE ON events BEGIN
  UPDATE search SET title = new.title, body = new.location || ' ' || new.notes
  WHERE rowid = 4 * new.id + 2;
END;
CREATE TRIGGER events_search_delete AFTER DELETE ON events BEGIN
  DELETE FROM search WHERE rowid = 4 * old.id + 2;
END;

CREATE TRIGGER files_search_insert AFTER INSERT ON files BEGIN
  INSERT INTO search (rowid, title, body) VALUES (4 * new.id + 3, new.name, new.text);
END;
CREATE TRIGGER files_search_update AFTER UPDATE ON files BEGIN
  UPDATE search SET title = new.name, body = new.text WHERE rowid = 4 * new.id + 3;
END;
CREATE TRIGGER files_search_delete AFTER DELETE ON files BEGIN
  DELETE FROM search WHERE rowid = 4 * old.id + 3;
END;

INSERT INTO calendars (name) VALUES ('Calendar');
INSERT INTO reminder_lists (name) VALUES ('Reminders');
INSERT INTO note_folders (name) VALUES ('Notes');
