-- When clients of a Seller went on sending dead keys. Nobody is mailed twice about one death of a key within a day.

CREATE TABLE incidents (
    id         TEXT   NOT NULL PRIMARY KEY,
    seller_id  TEXT   NOT NULL REFERENCES sellers (id),
    -- When the key died that was the live one last. One that dies later is another incident.
    died_us    INTEGER NOT NULL,
    opened_us  INTEGER NOT NULL,
    -- NULL while it is open.
    closed_us  INTEGER
) STRICT;

-- At most one open incident per Seller, so that two servers which notice at once send one mail.
CREATE UNIQUE INDEX one_open_incident ON incidents (seller_id) WHERE closed_us IS NULL;
