-- Mails that wait to be sent, one row for each recipient.

-- A row is written in the transaction of the act that it tells of: no act without its mail, no mail without its act. It goes
-- when the mail was handed over, or when it is given up.
CREATE TABLE outbox (
    -- Also the mail's Message-ID, by which a mail that a crash had sent twice is told.
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    created_us    BIGINT NOT NULL,
    recipient     TEXT COLLATE "C" NOT NULL,
    subject       TEXT COLLATE "C" NOT NULL,
    -- Plain text; never a key, a password or a link's token.
    body          TEXT COLLATE "C" NOT NULL,
    -- The path of the page that it is about: the server that sends the mail knows by which name the page is reached.
    page          TEXT COLLATE "C" NOT NULL,
    -- When it is tried next. Moved on before each try, so that two servers do not try at once.
    next_try_us   BIGINT NOT NULL,
    -- Tries that were begun.
    attempts      BIGINT NOT NULL
);

CREATE INDEX outbox_by_next_try ON outbox (next_try_us);
