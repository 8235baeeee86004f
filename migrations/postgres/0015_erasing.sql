-- Erasing a person: the one change of the audit log besides a receipt and the loss of an address.

-- Who is being erased at this very moment, and what is written instead of them. A row stands here only inside the
-- transaction that erases; committed, the table is empty: to keep the person's name here would be to keep it.
CREATE TABLE erasing (
    -- What every place names from then on that named the person: the same everywhere, and nothing leads back from it.
    pseudonym   TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (pseudonym LIKE 'erased-%'),
    -- The person's id; empty for somebody who was invited and never came.
    user_id     TEXT COLLATE "C" NOT NULL,
    -- Their address.
    email       TEXT COLLATE "C" NOT NULL,
    -- The same as it stands in JSON, with its quotes: what is replaced is the whole of a value, and no part of a longer one.
    email_json  TEXT COLLATE "C" NOT NULL
);

-- As in 0008, but that whoever is being erased may be replaced by their pseudonym, in the three columns that can name them
-- and by nothing else. The question is in a function, as a trigger's WHEN may not ask a table.
DROP TRIGGER audit_log_is_append_only ON audit_log;

CREATE FUNCTION refuse_change_of_audit_but_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM erasing e
        WHERE (NEW.actor = OLD.actor
            OR (OLD.actor = 'user:' || e.user_id AND NEW.actor = 'user:' || e.pseudonym))
        AND (NEW.user_id IS NOT DISTINCT FROM OLD.user_id
            OR (OLD.user_id = e.user_id AND NEW.user_id = e.pseudonym))
        AND (NEW.detail = OLD.detail
            OR NEW.detail = replace(replace(OLD.detail, e.user_id, e.pseudonym),
                e.email_json, '"' || e.pseudonym || '"')
            OR NEW.detail = replace(OLD.detail, e.email, e.pseudonym)))
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;

CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE ON audit_log FOR EACH ROW
WHEN (NEW.id IS DISTINCT FROM OLD.id OR NEW.at_us IS DISTINCT FROM OLD.at_us
    OR NEW.seller_id IS DISTINCT FROM OLD.seller_id OR NEW.act IS DISTINCT FROM OLD.act
    OR NEW.key_id IS DISTINCT FROM OLD.key_id
    OR (NEW.receipt IS DISTINCT FROM OLD.receipt AND OLD.receipt IS NOT NULL)
    OR (NEW.address IS DISTINCT FROM OLD.address AND NEW.address IS NOT NULL))
EXECUTE FUNCTION refuse_change_of_audit();

CREATE TRIGGER audit_log_names_change_by_erasure BEFORE UPDATE ON audit_log FOR EACH ROW
WHEN (NEW.actor IS DISTINCT FROM OLD.actor OR NEW.user_id IS DISTINCT FROM OLD.user_id
    OR NEW.detail IS DISTINCT FROM OLD.detail)
EXECUTE FUNCTION refuse_change_of_audit_but_erasure();
