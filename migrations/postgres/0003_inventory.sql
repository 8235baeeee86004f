-- What is for sale.

CREATE TABLE listings (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seller_id   TEXT COLLATE "C" NOT NULL REFERENCES sellers (id),
    vin         TEXT COLLATE "C" NOT NULL,
    status      TEXT COLLATE "C" NOT NULL CHECK (status IN ('active', 'sold', 'expired')),
    -- The record's other fields as one JSON object: compared, stored and sent whole, and open to new optional fields
    -- without a migration.
    fields      TEXT COLLATE "C" NOT NULL,
    created_us  BIGINT NOT NULL,
    updated_us  BIGINT NOT NULL,
    UNIQUE (seller_id, vin)
);

-- One active listing per VIN in the whole marketplace; a sold or expired one leaves the VIN to the next Seller.
CREATE UNIQUE INDEX one_active_listing ON listings (vin) WHERE status = 'active';
-- Pages through one Seller's listings.
CREATE INDEX listings_of_seller ON listings (seller_id, id);
