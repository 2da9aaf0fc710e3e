-- A record is in quarantine once, however many of its versions could not be stored: the newest is what is open or rests,
-- and each newer one ends those before it. These stay, bytes and all, as long as whatever has ended does: which field was
-- damaged since when is told by them alone. What wrote these rows before knows of no order: what it adds is put right by
-- the next version that comes, or by the daily comparison, which asks for every such record again.
ALTER TABLE quarantined_records
    -- The vendor's stamp of this version; NULL: it cannot be read.
    ADD COLUMN version_at timestamptz,
    -- The page it was last seen on shows nothing older than this, by the vendor's clock; NULL: that is not known.
    ADD COLUMN read_at timestamptz,
    -- It lies in the vendor's recycle bin; NULL: that is not known.
    ADD COLUMN is_deleted boolean,
    -- Of which version of the record it is the bytes, counted since the record is in quarantine.
    ADD COLUMN versions integer NOT NULL DEFAULT 1;

WITH ranked AS (
    SELECT id, row_number() OVER newest AS place, count(*) OVER (PARTITION BY connection_id, object, record_id) AS versions
    FROM quarantined_records WHERE state <> 'resolved' AND record_id IS NOT NULL
    WINDOW newest AS (PARTITION BY connection_id, object, record_id ORDER BY last_seen_at DESC, id DESC)
)
UPDATE quarantined_records q
SET versions = ranked.versions - ranked.place + 1,
    state = CASE ranked.place WHEN 1 THEN q.state ELSE 'resolved' END,
    state_by = CASE ranked.place WHEN 1 THEN q.state_by ELSE 'servant' END,
    state_reason = CASE ranked.place WHEN 1 THEN q.state_reason ELSE 'a later version of the record is in quarantine' END,
    state_since = CASE ranked.place WHEN 1 THEN q.state_since ELSE now() END
FROM ranked WHERE q.id = ranked.id AND ranked.versions > 1;
