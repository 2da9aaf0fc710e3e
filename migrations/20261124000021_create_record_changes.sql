-- The change log: every insert, change and delete of a record, once, written by the transaction that writes the record.

CREATE SEQUENCE record_changes_seq;

CREATE TABLE record_changes (
    -- Drawn while the record's row is locked, so that the changes of one record are in its order.
    seq bigint NOT NULL DEFAULT nextval('record_changes_seq'),
    -- Who reads on from where it was takes transactions that had ended, since numbers become visible out of order.
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL,
    account_id bigint NOT NULL,
    vendor text NOT NULL,
    object text NOT NULL,
    record_id text NOT NULL,
    -- 1 inserted, 2 changed, 3 deleted, 4 back from deletion; what comes deleted at first sight is 3.
    op smallint NOT NULL CHECK (op BETWEEN 1 AND 4),
    content_hash bigint NOT NULL
) PARTITION BY RANGE (at);

-- All changes of a page have one key, so that this index stays small.
CREATE INDEX record_changes_account_idx ON record_changes (account_id, tx);

-- Rows outside every day's partition: a clock far off, or a scheduler that was away for long.
CREATE TABLE record_changes_default PARTITION OF record_changes DEFAULT;
