-- What was done, by whom, to which key: append-only but for the receipt, which is known only after the commit.

CREATE TABLE audit_log (
    id         TEXT   NOT NULL PRIMARY KEY,
    at_us      INTEGER NOT NULL,
    -- 'operator', 'key:' and an id, or 'user:' and an id.
    actor      TEXT   NOT NULL,
    seller_id  TEXT,
    -- Such as 'key.generated'.
    act        TEXT   NOT NULL,
    key_id     TEXT,
    -- A JSON object of what else is worth knowing; never a key.
    detail     TEXT   NOT NULL,
    -- The revocation receipt as JSON, once every node had confirmed.
    receipt    TEXT
) STRICT;

CREATE INDEX audit_of_seller ON audit_log (seller_id, id);
