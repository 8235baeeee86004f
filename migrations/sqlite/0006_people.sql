-- How people come in: sessions, the links that let somebody in for the first time or again, and failures to sign in.

-- One browser that is signed in.
CREATE TABLE sessions (
    id            TEXT   NOT NULL PRIMARY KEY,
    user_id       TEXT   NOT NULL REFERENCES users (id),
    -- SHA-256 of the cookie's token; the token itself is nowhere.
    digest        BLOB   NOT NULL UNIQUE,
    created_us    INTEGER NOT NULL,
    -- The last request, to the minute: a row is not written for each.
    seen_us       INTEGER NOT NULL,
    -- When the password was last given: acts on keys and members want it to be recent.
    confirmed_us  INTEGER NOT NULL,
    -- Where and by what it was last used, for the list in which a person looks for a stranger.
    address       TEXT   NOT NULL,
    user_agent    TEXT   NOT NULL
) STRICT;

CREATE INDEX sessions_of_user ON sessions (user_id);

-- A link that was handed to one person: to become a member of a Seller, or to set a new password. Works once.
CREATE TABLE account_links (
    -- SHA-256 of the link's token.
    digest      BLOB   NOT NULL PRIMARY KEY,
    kind        TEXT   NOT NULL CHECK (kind IN ('invitation', 'reset')),
    -- Whose link it is; an invited person may be no User yet.
    email       TEXT   NOT NULL,
    -- What an invitation is to; NULL for a reset.
    seller_id   TEXT   REFERENCES sellers (id),
    role        TEXT   CHECK (role IN ('owner', 'admin', 'viewer')),
    -- Who made it: 'operator', or 'user:' and an id.
    made_by     TEXT   NOT NULL,
    created_us  INTEGER NOT NULL,
    expires_us  INTEGER NOT NULL
) STRICT;

CREATE INDEX account_links_of_seller ON account_links (seller_id);
CREATE INDEX account_links_of_email ON account_links (email);

-- Failures of the last quarter of an hour, by what they have in common. Only failures: who signs in leaves no row.
CREATE TABLE sign_in_failures (
    -- 'email:' or 'address:' and a hash of it: the table is no list of who was tried from where.
    subject  TEXT   NOT NULL,
    at_us    INTEGER NOT NULL
) STRICT;

CREATE INDEX sign_in_failures_of ON sign_in_failures (subject, at_us);
CREATE INDEX sign_in_failures_by_time ON sign_in_failures (at_us);
