-- What is usual for an object's changes, so that what is not can be told: a handful of numbers for each stream.

-- One row for each piece of a page that changed something, until it is folded into the statistics: pages that are written
-- at the same time do not wait for one another.
CREATE TABLE stream_tallies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection_id bigint NOT NULL,
    object text NOT NULL,
    rows bigint NOT NULL,
    -- New versions by the hour that they are of: {"<hours since 1970>": [versions, deleted ones]}
    hours jsonb NOT NULL,
    -- Rows without a value, by field: {"name": rows}
    nulls jsonb NOT NULL
);

CREATE INDEX stream_tallies_stream_idx ON stream_tallies (connection_id, object);

CREATE TABLE stream_statistics (
    stream_id bigint PRIMARY KEY REFERENCES streams (id),
    -- Hours before this have been judged, and are in stream_hours.
    judged_until timestamptz NOT NULL,
    -- Those that are not over: as in stream_tallies.
    hours jsonb NOT NULL,
    -- How often fields are empty.
    nulls jsonb NOT NULL
) WITH (fillfactor = 50);

-- The last weeks of each hour of the week, the newest first.
CREATE TABLE stream_hours (
    stream_id bigint NOT NULL REFERENCES streams (id),
    -- From Monday 00:00 UTC.
    hour_of_week smallint NOT NULL CHECK (hour_of_week BETWEEN 0 AND 167),
    changes bigint[] NOT NULL,
    deletes bigint[] NOT NULL,
    PRIMARY KEY (stream_id, hour_of_week)
) WITH (fillfactor = 70);
