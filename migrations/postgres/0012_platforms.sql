-- Platforms, what Sellers grant them, and what the marketplace can do to an account: suspend it, close it.

-- A Platform is an account like a Seller's, with people, one key, an audit log and the same rules for all of them; what it has
-- not is inventory. So it is a row of the same table, told apart by this.
ALTER TABLE sellers ADD COLUMN kind TEXT COLLATE "C" NOT NULL DEFAULT 'seller' CHECK (kind IN ('seller', 'platform'));
-- Nothing is accepted for an account that is not active. 'closed' is for good.
ALTER TABLE sellers ADD COLUMN status TEXT COLLATE "C" NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'closed'));
-- What the marketplace said when it suspended or closed the account; shown to its people.
ALTER TABLE sellers ADD COLUMN status_reason TEXT COLLATE "C";
-- The networks from which the account's key is accepted, as CIDR, separated by a space. NULL: from anywhere.
ALTER TABLE sellers ADD COLUMN key_networks TEXT COLLATE "C";
-- The Platform that brought a Seller into being; NULL for one that the operator made.
ALTER TABLE sellers ADD COLUMN created_by TEXT COLLATE "C" REFERENCES sellers (id);

-- Which Platform may act for which Seller. One row for each pair that ever was; withdrawn ones are marked and never
-- deleted, as a node that asks "what changed since?" could not see a deletion.
CREATE TABLE grants (
    id             TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seller_id      TEXT COLLATE "C" NOT NULL REFERENCES sellers (id),
    platform_id    TEXT COLLATE "C" NOT NULL REFERENCES sellers (id),
    state          TEXT COLLATE "C" NOT NULL CHECK (state IN ('live', 'withdrawn')),
    -- Who gave it last: 'user:' and an id, or 'key:' and an id for a Seller that the Platform itself brought into being.
    made_by        TEXT COLLATE "C" NOT NULL,
    created_us     BIGINT NOT NULL,
    ended_us       BIGINT,
    -- The revocation epoch of the last change to this row.
    changed_epoch  BIGINT NOT NULL,
    UNIQUE (seller_id, platform_id)
);

CREATE INDEX grants_of_platform ON grants (platform_id, seller_id);
CREATE INDEX grants_changed ON grants (changed_epoch);
