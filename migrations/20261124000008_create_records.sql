-- Where customers' records go: a schema for each vendor, in which servants make one table for each object.

CREATE SCHEMA salesforce;

-- Records that could not be stored, whole, with the reason. Gone again once a readable version of the record is stored.
CREATE TABLE quarantined_records (
    account_id bigint NOT NULL,
    connection_id bigint NOT NULL,
    object text NOT NULL,
    -- Of the bytes: the same damage is one row, however often it is read.
    digest uuid NOT NULL,
    record_id text,
    reason text NOT NULL,
    body bytea NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, connection_id, object, digest)
);

CREATE INDEX quarantined_records_record_idx ON quarantined_records (connection_id, object, record_id);
