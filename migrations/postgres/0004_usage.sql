-- Who used which key, counted per minute. Written in batches, never a row per request.

-- A client: an address together with a User-Agent.
CREATE TABLE usage_clients (
    -- A hash of the two columns below, so that no look-up is needed to know it.
    id          BIGINT NOT NULL PRIMARY KEY,
    address     TEXT COLLATE "C" NOT NULL,
    user_agent  TEXT COLLATE "C" NOT NULL,
    -- For forgetting: addresses are kept 30 days after they were last seen.
    seen_us     BIGINT NOT NULL
);

CREATE TABLE key_usage (
    seller_id     TEXT COLLATE "C" NOT NULL,
    key_id        TEXT COLLATE "C" NOT NULL,
    -- Whole minutes since 1970 UTC.
    minute        BIGINT NOT NULL,
    client_id     BIGINT NOT NULL,
    -- '2xx', '3xx', '401', '403', '429', '4xx' or '5xx'.
    status_class  TEXT COLLATE "C" NOT NULL,
    requests      BIGINT NOT NULL,
    -- When the last of them came.
    last_us       BIGINT NOT NULL,
    PRIMARY KEY (seller_id, minute, key_id, client_id, status_class)
);

CREATE INDEX key_usage_by_minute ON key_usage (minute);
