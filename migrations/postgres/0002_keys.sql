-- The keys, and the counter that orders every change of what keys are good.

-- A dead key is marked, never deleted: a node that asks "what changed since?" could not see a deletion.
CREATE TABLE api_keys (
    id             TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seller_id      TEXT COLLATE "C" NOT NULL REFERENCES sellers (id),
    -- SHA-256 of the whole key; the key itself is nowhere. NULL once forgotten (state 'forgotten').
    digest         BYTEA UNIQUE,
    -- The key's last four characters, by which a person recognises it.
    hint           TEXT COLLATE "C" NOT NULL,
    state          TEXT COLLATE "C" NOT NULL CHECK (state IN ('live', 'replaced', 'expired', 'forgotten')),
    -- Who made it: 'operator', or 'user:' and an id.
    made_by        TEXT COLLATE "C" NOT NULL,
    created_us     BIGINT NOT NULL,
    -- When the response that carries the key was handed out. NULL on a live key: replaced but never shown, as after a crash.
    shown_us       BIGINT,
    ended_us       BIGINT,
    -- What the operator said when forcing expiry; shown to the Seller.
    end_reason     TEXT COLLATE "C",
    -- The revocation epoch of the last change to this row.
    changed_epoch  BIGINT NOT NULL
);

-- At most one live key per Seller, held by the database itself whatever the program does.
CREATE UNIQUE INDEX one_live_key ON api_keys (seller_id) WHERE state = 'live';
CREATE INDEX api_keys_of_seller ON api_keys (seller_id, created_us);
CREATE INDEX api_keys_changed ON api_keys (changed_epoch);

-- One row. Bumped inside every transaction that changes what keys are good, so that commit order is epoch order.
CREATE TABLE key_epoch (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch  BIGINT NOT NULL
);

INSERT INTO key_epoch (one, epoch) VALUES (1, 0);
