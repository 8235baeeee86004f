-- Erasing a person: the one change of the audit log besides a receipt and the loss of an address.

-- Who is being erased at this very moment, and what is written instead of them. A row stands here only inside the
-- transaction that erases; committed, the table is empty: to keep the person's name here would be to keep it.
CREATE TABLE erasing (
    -- What every place names from then on that named the person: the same everywhere, and nothing leads back from it.
    pseudonym   TEXT NOT NULL PRIMARY KEY CHECK (pseudonym LIKE 'erased-%'),
    -- The person's id; empty for somebody who was invited and never came.
    user_id     TEXT NOT NULL,
    -- Their address.
    email       TEXT NOT NULL,
    -- The same as it stands in JSON, with its quotes: what is replaced is the whole of a value, and no part of a longer one.
    email_json  TEXT NOT NULL
) STRICT;

-- As in 0008, but that whoever is being erased may be replaced by their pseudonym, in the three columns that can name them
-- and by nothing else.
DROP TRIGGER audit_log_is_append_only;

CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE ON audit_log
WHEN NEW.id IS NOT OLD.id OR NEW.at_us IS NOT OLD.at_us OR NEW.seller_id IS NOT OLD.seller_id
    OR NEW.act IS NOT OLD.act OR NEW.key_id IS NOT OLD.key_id
    OR (NEW.receipt IS NOT OLD.receipt AND OLD.receipt IS NOT NULL)
    OR (NEW.address IS NOT OLD.address AND NEW.address IS NOT NULL)
    OR ((NEW.actor IS NOT OLD.actor OR NEW.user_id IS NOT OLD.user_id OR NEW.detail IS NOT OLD.detail)
        AND NOT EXISTS (SELECT 1 FROM erasing e
            WHERE (NEW.actor IS OLD.actor
                OR (OLD.actor IS 'user:' || e.user_id AND NEW.actor IS 'user:' || e.pseudonym))
            AND (NEW.user_id IS OLD.user_id OR (OLD.user_id IS e.user_id AND NEW.user_id IS e.pseudonym))
            AND (NEW.detail IS OLD.detail
                OR NEW.detail IS replace(replace(OLD.detail, e.user_id, e.pseudonym),
                    e.email_json, '"' || e.pseudonym || '"')
                OR NEW.detail IS replace(OLD.detail, e.email, e.pseudonym))))
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
