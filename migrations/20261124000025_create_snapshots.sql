-- What is known of each object's fields, and the readings of a whole object that are held against its stored records.

-- The hash tells at a glance whether describe says what it said the last time.
ALTER TABLE streams ADD COLUMN schema_hash bigint;
-- When the object's records were last held against all that the vendor shows, by the vendor's clock.
ALTER TABLE streams ADD COLUMN reconciled_at timestamptz;

CREATE TABLE stream_fields (
    stream_id bigint NOT NULL REFERENCES streams (id),
    name text NOT NULL,
    -- As the vendor calls it.
    field_type text NOT NULL,
    -- Its value changes without the record's modification stamp.
    is_calculated boolean NOT NULL,
    known_since timestamptz NOT NULL,
    -- Since when the vendor shows it no more: its column is as old as that.
    stale_since timestamptz,
    -- Records that were read before this lack its value, until a snapshot has brought it.
    unfilled_since timestamptz,
    PRIMARY KEY (stream_id, name)
) WITH (fillfactor = 80);

-- A reading of a whole object, id by id; it is deleted when it has been held against what is stored.
CREATE SEQUENCE snapshots_id_seq;

CREATE TABLE snapshots (
    stream_id bigint PRIMARY KEY REFERENCES streams (id),
    -- Each reading has another, so that what one leaves behind is in no other's way.
    id bigint NOT NULL DEFAULT nextval('snapshots_id_seq'),
    -- Who reads it: nobody else while that job runs.
    job_id bigint NOT NULL,
    -- By the vendor's clock, and by ours.
    began_at timestamptz NOT NULL,
    opened_at timestamptz NOT NULL,
    -- The fields that are read beside the id.
    fields text[] NOT NULL,
    -- The vendor's job of a reading in bulk, with its version of the API.
    vendor_job text,
    api_version text,
    -- The page mark, as of windows.
    rows_expected bigint,
    rows_seen bigint NOT NULL DEFAULT 0,
    pages integer NOT NULL DEFAULT 0,
    next_page text,
    is_read boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

CREATE TABLE snapshot_ids (
    stream_id bigint NOT NULL,
    snapshot_id bigint NOT NULL,
    record_id text NOT NULL,
    PRIMARY KEY (stream_id, snapshot_id, record_id)
);
