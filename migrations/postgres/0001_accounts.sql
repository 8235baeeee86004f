-- Who there is: dealer accounts, the people who sign in to them, and who belongs where.
-- Text is compared byte by byte, as SQLite does, whatever the database's own rules for a language are.
-- Ids are UUIDs of version 7 as text; every time is whole microseconds since 1970 UTC, handed in by the program.

-- A Seller is the tenant: every other Seller-owned row points here.
CREATE TABLE sellers (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- Names the Seller in addresses and commands; never changes, so that links and scripts keep working.
    slug         TEXT COLLATE "C" NOT NULL UNIQUE,
    name         TEXT COLLATE "C" NOT NULL,
    -- Decides what costs money: platform access and the quotas.
    plan         TEXT COLLATE "C" NOT NULL CHECK (plan IN ('starter', 'pro', 'enterprise')),
    phone        TEXT COLLATE "C",
    email        TEXT COLLATE "C",
    website      TEXT COLLATE "C",
    description  TEXT COLLATE "C",
    -- Counts changes of the key: whoever acts on a page rendered before the last change is told so instead of obeyed.
    key_version  BIGINT NOT NULL,
    created_us   BIGINT NOT NULL,
    updated_us   BIGINT NOT NULL
);

-- Where a Seller's units stand; replaced as a whole by each upsert.
CREATE TABLE seller_locations (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seller_id    TEXT COLLATE "C" NOT NULL REFERENCES sellers (id),
    -- The order in which the Seller gave them.
    position     BIGINT NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    street       TEXT COLLATE "C",
    city         TEXT COLLATE "C",
    state        TEXT COLLATE "C",
    postal_code  TEXT COLLATE "C",
    phone        TEXT COLLATE "C",
    UNIQUE (seller_id, position)
);

-- A person who signs in.
CREATE TABLE users (
    id             TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- Lower case: people do not remember how they wrote it.
    email          TEXT COLLATE "C" NOT NULL UNIQUE,
    -- Argon2id in PHC form, which carries its own parameters.
    password_hash  TEXT COLLATE "C" NOT NULL,
    created_us     BIGINT NOT NULL
);

-- Which User may act for which Seller, and how far.
CREATE TABLE memberships (
    user_id     TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    seller_id   TEXT COLLATE "C" NOT NULL REFERENCES sellers (id),
    role        TEXT COLLATE "C" NOT NULL CHECK (role IN ('owner', 'admin', 'viewer')),
    created_us  BIGINT NOT NULL,
    PRIMARY KEY (user_id, seller_id)
);

CREATE INDEX memberships_of_seller ON memberships (seller_id);
