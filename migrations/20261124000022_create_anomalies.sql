-- What is out of the ordinary in a customer's data and may need a person. One row for each thing that is, however often
-- it is seen.

CREATE TABLE anomalies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts (id),
    connection_id bigint NOT NULL REFERENCES connections (id),
    -- Empty: the whole connection is concerned.
    object text NOT NULL,
    kind text NOT NULL,
    -- What of the object: a field's name, or empty.
    subject text NOT NULL,
    -- 1 to know, 2 to look at, 3 to act on.
    severity smallint NOT NULL CHECK (severity BETWEEN 1 AND 3),
    state text NOT NULL CHECK (state IN ('open', 'acknowledged', 'muted', 'resolved')),
    summary text NOT NULL,
    evidence jsonb NOT NULL,
    sightings bigint NOT NULL DEFAULT 1,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    -- Who brought it into its state, why and when.
    state_by text NOT NULL,
    state_reason text NOT NULL,
    state_since timestamptz NOT NULL,
    UNIQUE (connection_id, object, kind, subject)
) WITH (fillfactor = 80);

-- Lists are newest first, of all, of a state, of a connection.
CREATE INDEX anomalies_state_idx ON anomalies (state, id);
