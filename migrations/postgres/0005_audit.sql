-- What was done, by whom, to which key: append-only but for the receipt, which is known only after the commit.

CREATE TABLE audit_log (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    at_us      BIGINT NOT NULL,
    -- 'operator', 'key:' and an id, or 'user:' and an id.
    actor      TEXT COLLATE "C" NOT NULL,
    seller_id  TEXT COLLATE "C",
    -- Such as 'key.generated'.
    act        TEXT COLLATE "C" NOT NULL,
    key_id     TEXT COLLATE "C",
    -- A JSON object of what else is worth knowing; never a key.
    detail     TEXT COLLATE "C" NOT NULL,
    -- The revocation receipt as JSON, once every node had confirmed.
    receipt    TEXT COLLATE "C"
);

CREATE INDEX audit_of_seller ON audit_log (seller_id, id);
