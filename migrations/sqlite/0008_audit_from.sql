-- From where and to whom, for the audit log; which Sellers see what a person did; and a log that only grows.

-- The address that the act came from. NULL for a command on the server, where it is not known, and once it is older than
-- addresses are kept.
ALTER TABLE audit_log ADD COLUMN address TEXT;
-- The User that the act is about: a member, or whoever's session or password it is. NULL if it is about none.
ALTER TABLE audit_log ADD COLUMN user_id TEXT;

-- An act of a person on their own session or password has no Seller. Here is who sees it all the same: each Seller that
-- the User was a member of at that moment, and keeps seeing it when they are one no more.
CREATE TABLE audit_also (
    seller_id  TEXT   NOT NULL,
    entry_id   TEXT   NOT NULL REFERENCES audit_log (id) ON DELETE CASCADE,
    PRIMARY KEY (seller_id, entry_id)
) STRICT;

-- For the removal of an entry, which takes these rows with it.
CREATE INDEX audit_also_of_entry ON audit_also (entry_id);
-- What is past its time is found without reading the rest.
CREATE INDEX audit_by_time ON audit_log (at_us);
CREATE INDEX audit_with_address ON audit_log (at_us) WHERE address IS NOT NULL;

UPDATE audit_log SET user_id = json_extract(detail, '$.user');
UPDATE audit_log SET user_id = substr(actor, 6) WHERE user_id IS NULL AND seller_id IS NULL AND actor LIKE 'user:%';

-- Append-only by the database itself, whatever the program does. Rows are removed by age alone; that age is the
-- operator's choice, which the database does not know.
CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE ON audit_log
WHEN NEW.id IS NOT OLD.id OR NEW.at_us IS NOT OLD.at_us OR NEW.actor IS NOT OLD.actor
    OR NEW.seller_id IS NOT OLD.seller_id OR NEW.act IS NOT OLD.act OR NEW.key_id IS NOT OLD.key_id
    OR NEW.user_id IS NOT OLD.user_id OR NEW.detail IS NOT OLD.detail
    OR (NEW.receipt IS NOT OLD.receipt AND OLD.receipt IS NOT NULL)
    OR (NEW.address IS NOT OLD.address AND NEW.address IS NOT NULL)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_also_is_append_only BEFORE UPDATE ON audit_also
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
