-- Keys that were prepared and wait for the cut-over: not accepted yet.

-- A row for at most one key of each Seller. When it is cut over or discarded the row goes, and the key goes on as a row of
-- api_keys, so that whoever asks "what changed since?" sees what became of it.
CREATE TABLE staged_keys (
    seller_id      TEXT   NOT NULL PRIMARY KEY REFERENCES sellers (id),
    id             TEXT   NOT NULL UNIQUE,
    -- SHA-256 of the whole key, as in api_keys.
    digest         BLOB   NOT NULL UNIQUE,
    hint           TEXT   NOT NULL,
    made_by        TEXT   NOT NULL,
    created_us     INTEGER NOT NULL,
    -- When it was handed out. NULL: prepared but never shown, as after a crash; such a key is never cut over.
    shown_us       INTEGER,
    -- The revocation epoch of its preparation.
    changed_epoch  INTEGER NOT NULL
) STRICT;

-- When a key began to be accepted, which for a key that was cut over is later than when it was made. NULL in rows from
-- before this column, whose keys were live from the beginning, and in those of keys that never were.
ALTER TABLE api_keys ADD COLUMN live_us INTEGER;
