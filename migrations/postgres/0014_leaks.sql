-- Signs that a key is where it should not be: somebody found it, or a browser sends it.

-- A row for each place at which a key was found and for each page whose browser sent it; a few per key, see LEAK_PLACES in
-- src/db/leaks.rs. The key itself is in none of them, and neither is who reported it.
CREATE TABLE leaks (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seller_id     TEXT COLLATE "C" NOT NULL REFERENCES sellers (id),
    -- In api_keys or staged_keys. No reference, as a key moves from the one to the other.
    key_id        TEXT COLLATE "C" NOT NULL,
    -- Who says so: 'github' (its secret scanning), 'report' (somebody who had the whole key), or 'browser' (the Origin header of
    -- requests with the key).
    finder        TEXT COLLATE "C" NOT NULL CHECK (finder IN ('github', 'report', 'browser')),
    -- Where: an address, or a page's origin. Cut, and without a key that stood in it. Empty: not said, or one place too many.
    place         TEXT COLLATE "C" NOT NULL,
    -- What kind of place GitHub calls it, such as 'commit'; empty if nobody said.
    source        TEXT COLLATE "C" NOT NULL,
    -- What was done when it was first said: 'expired', 'discarded' (the key was a prepared one), 'told' (the key is live, and its
    -- owners know), 'dead' (it was dead already), 'seen' (of a browser).
    outcome       TEXT COLLATE "C" NOT NULL CHECK (outcome IN ('expired', 'discarded', 'told', 'dead', 'seen')),
    -- How often it was said: reports, or requests.
    times         BIGINT NOT NULL,
    first_us      BIGINT NOT NULL,
    last_us       BIGINT NOT NULL,
    -- When its mails were written; NULL if there were none. Nobody is mailed about one live key twice a day.
    told_us       BIGINT,
    -- When an owner or admin said that it needs no more attention; NULL while it is shown.
    dismissed_us  BIGINT,
    -- The same said again is counted, not added.
    UNIQUE (key_id, finder, place, source)
);

-- What the page of a Seller's key shows.
CREATE INDEX leaks_by_seller ON leaks (seller_id, last_us);
-- What operators look at, the newest first, and what is forgotten.
CREATE INDEX leaks_by_last ON leaks (last_us);
