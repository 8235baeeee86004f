-- The processes that serve, so that a change of keys knows for whom to wait; and how old a program may be that uses this schema.

-- A row for each process that keeps the key table in memory, made before it trusts that table. Small and often updated.
CREATE TABLE nodes (
    -- New for every start of a process: two processes never share one.
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- What people call it: its host and the address that it listens on.
    name        TEXT COLLATE "C" NOT NULL,
    version     TEXT COLLATE "C" NOT NULL,
    -- Which of its own cycles it is in, counted by itself: never the same number twice, so that a row whose number has not
    -- moved is one whose owner has not renewed.
    cycles      BIGINT NOT NULL,
    -- The revocation epoch that all of its threads judge by. -1 until it says so for the first time.
    applied     BIGINT NOT NULL,
    started_us  BIGINT NOT NULL,
    -- When it last renewed, on the database's clock. For people: no rule reads it.
    renewed_us  BIGINT NOT NULL
);

-- Room in its pages for the updates to come.
ALTER TABLE nodes SET (fillfactor = 20);

-- One row: the oldest schema whose programs still work with this one. A migration that takes away what they need raises it.
CREATE TABLE schema_floor (
    one     BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    oldest  BIGINT NOT NULL
);

INSERT INTO schema_floor (one, oldest) VALUES (1, 11);
