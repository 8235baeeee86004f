-- Who there is: dealer accounts, the people who sign in to them, and who belongs where.
-- Ids are UUIDs of version 7 as text; every time is whole microseconds since 1970 UTC, handed in by the program.

-- A Seller is the tenant: every other Seller-owned row points here.
CREATE TABLE sellers (
    id           TEXT   NOT NULL PRIMARY KEY,
    -- Names the Seller in addresses and commands; never changes, so that links and scripts keep working.
    slug         TEXT   NOT NULL UNIQUE,
    name         TEXT   NOT NULL,
    -- Decides what costs money: platform access and the quotas.
    plan         TEXT   NOT NULL CHECK (plan IN ('starter', 'pro', 'enterprise')),
    phone        TEXT,
    email        TEXT,
    website      TEXT,
    description  TEXT,
    -- Counts changes of the key: whoever acts on a page rendered before the last change is told so instead of obeyed.
    key_version  INTEGER NOT NULL,
    created_us   INTEGER NOT NULL,
    updated_us   INTEGER NOT NULL
) STRICT;

-- Where a Seller's units stand; replaced as a whole by each upsert.
CREATE TABLE seller_locations (
    id           TEXT   NOT NULL PRIMARY KEY,
    seller_id    TEXT   NOT NULL REFERENCES sellers (id),
    -- The order in which the Seller gave them.
    position     INTEGER NOT NULL,
    name         TEXT   NOT NULL,
    street       TEXT,
    city         TEXT,
    state        TEXT,
    postal_code  TEXT,
    phone        TEXT,
    UNIQUE (seller_id, position)
) STRICT;

-- A person who signs in.
CREATE TABLE users (
    id             TEXT   NOT NULL PRIMARY KEY,
    -- Lower case: people do not remember how they wrote it.
    email          TEXT   NOT NULL UNIQUE,
    -- Argon2id in PHC form, which carries its own parameters.
    password_hash  TEXT   NOT NULL,
    created_us     INTEGER NOT NULL
) STRICT;

-- Which User may act for which Seller, and how far.
CREATE TABLE memberships (
    user_id     TEXT   NOT NULL REFERENCES users (id),
    seller_id   TEXT   NOT NULL REFERENCES sellers (id),
    role        TEXT   NOT NULL CHECK (role IN ('owner', 'admin', 'viewer')),
    created_us  INTEGER NOT NULL,
    PRIMARY KEY (user_id, seller_id)
) STRICT;

CREATE INDEX memberships_of_seller ON memberships (seller_id);
