-- A second factor for people, what lets somebody in who has lost it, and mails whose link is made when they are sent.

-- The secret that a person's authenticator app has, too (RFC 6238). One for each User who has begun to set one up.
CREATE TABLE second_factors (
    user_id       TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES users (id),
    -- 20 random bytes. Not hashed: the server computes the same codes from it as the app does.
    secret        BYTEA   NOT NULL,
    created_us    BIGINT NOT NULL,
    -- When a first code showed that the app has the secret; NULL until then, and nobody is asked for a code yet.
    confirmed_us  BIGINT,
    -- The last time step, of 30 seconds each since 1970, whose code was accepted: neither it nor an earlier one is accepted
    -- again, on whichever node.
    last_step     BIGINT NOT NULL,
    -- When the person was last mailed that somebody has their password and guesses at codes: not for each guess.
    warned_us     BIGINT NOT NULL
);

-- What lets a person in whose app is gone. Each works once, and its row goes with it.
CREATE TABLE recovery_codes (
    -- SHA-256 of the code: with 120 random bits there is nothing to guess.
    digest      BYTEA   NOT NULL PRIMARY KEY,
    user_id     TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    created_us  BIGINT NOT NULL
);

CREATE INDEX recovery_codes_of_user ON recovery_codes (user_id);

-- Somebody whose password was right and whose code is awaited: no session yet.
CREATE TABLE half_sign_ins (
    -- SHA-256 of the token in the browser's cookie.
    digest      BYTEA   NOT NULL PRIMARY KEY,
    user_id     TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    expires_us  BIGINT NOT NULL
);

CREATE INDEX half_sign_ins_of_user ON half_sign_ins (user_id);
CREATE INDEX half_sign_ins_by_end ON half_sign_ins (expires_us);

-- 1 if an owner decided that whoever acts for the Seller must have a second factor.
ALTER TABLE sellers ADD COLUMN second_factor_required BIGINT NOT NULL DEFAULT 0;

-- When a link for a new password was last asked for by whoever said that they were this User: not every request is a mail.
ALTER TABLE users ADD COLUMN reset_asked_us BIGINT NOT NULL DEFAULT 0;

-- The link that a mail brings, by the digest that its row has at present. Whoever sends the mail gives that row the digest of a
-- token made at that moment: no token is ever stored, and a link that was taken back or replaced takes its mail with it.
ALTER TABLE outbox ADD COLUMN link BYTEA;
