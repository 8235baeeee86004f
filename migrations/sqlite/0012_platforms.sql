-- Platforms, what Sellers grant them, and what the marketplace can do to an account: suspend it, close it.

-- A Platform is an account like a Seller's, with people, one key, an audit log and the same rules for all of them; what it has
-- not is inventory. So it is a row of the same table, told apart by this.
ALTER TABLE sellers ADD COLUMN kind TEXT NOT NULL DEFAULT 'seller' CHECK (kind IN ('seller', 'platform'));
-- Nothing is accepted for an account that is not active. 'closed' is for good.
ALTER TABLE sellers ADD COLUMN status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'closed'));
-- What the marketplace said when it suspended or closed the account; shown to its people.
ALTER TABLE sellers ADD COLUMN status_reason TEXT;
-- The networks from which the account's key is accepted, as CIDR, separated by a space. NULL: from anywhere.
ALTER TABLE sellers ADD COLUMN key_networks TEXT;
-- The Platform that brought a Seller into being; NULL for one that the operator made.
ALTER TABLE sellers ADD COLUMN created_by TEXT REFERENCES sellers (id);

-- Which Platform may act for which Seller. One row for each pair that ever was; withdrawn ones are marked and never
-- deleted, as a node that asks "what changed since?" could not see a deletion.
CREATE TABLE grants (
    id             TEXT NOT NULL PRIMARY KEY,
    seller_id      TEXT NOT NULL REFERENCES sellers (id),
    platform_id    TEXT NOT NULL REFERENCES sellers (id),
    state          TEXT NOT NULL CHECK (state IN ('live', 'withdrawn')),
    -- Who gave it last: 'user:' and an id, or 'key:' and an id for a Seller that the Platform itself brought into being.
    made_by        TEXT NOT NULL,
    created_us     INTEGER NOT NULL,
    ended_us       INTEGER,
    -- The revocation epoch of the last change to this row.
    changed_epoch  INTEGER NOT NULL,
    UNIQUE (seller_id, platform_id)
) STRICT;

CREATE INDEX grants_of_platform ON grants (platform_id, seller_id);
CREATE INDEX grants_changed ON grants (changed_epoch);
