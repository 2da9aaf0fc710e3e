-- A record that left quarantine stays known for a while, and a person can say of one that is in it that it may rest. What
-- wrote these rows before knows of no state: what it adds is open, and it takes rows away instead of ending them.
ALTER TABLE quarantined_records
    ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'dismissed', 'resolved')),
    ADD COLUMN state_by text NOT NULL DEFAULT 'servant',
    ADD COLUMN state_reason text NOT NULL DEFAULT '',
    -- NULL: since it was seen first.
    ADD COLUMN state_since timestamptz,
    -- When somebody last had the record asked for once more.
    ADD COLUMN retried_at timestamptz;

-- No order: a list by number would be tempted to go through all states and customers.
CREATE INDEX quarantined_records_id_idx ON quarantined_records USING hash (id);
CREATE INDEX quarantined_records_state_idx ON quarantined_records (state, id);
CREATE INDEX quarantined_records_account_idx ON quarantined_records (account_id, state, id);
CREATE INDEX quarantined_records_connection_idx ON quarantined_records (connection_id, state, id);
CREATE INDEX quarantined_records_object_idx ON quarantined_records (connection_id, object, state, id);
-- What is in quarantine now: each page of a sync asks whether there is anything.
CREATE INDEX quarantined_records_kept_idx ON quarantined_records (connection_id, object, record_id)
    WHERE state <> 'resolved';
-- What may be forgotten.
CREATE INDEX quarantined_records_ended_idx ON quarantined_records (last_seen_at) WHERE state <> 'open';
