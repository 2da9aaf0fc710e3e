-- How late changes show, and how far the vendor's log of deletions was followed.

ALTER TABLE streams
    -- Up to here, deletions are known by the vendor's log of them.
    ADD COLUMN deleted_until timestamptz,
    -- How far its windows reach back into the one before, in seconds, as was learnt; NULL: as configured.
    ADD COLUMN overlap_secs integer CHECK (overlap_secs >= 0),
    -- How late the latest change was, in seconds behind the end of the window that it should have been in.
    ADD COLUMN lateness_secs integer NOT NULL DEFAULT 0;

-- The oldest change that the window brought: what lies before the watermark was late.
ALTER TABLE windows ADD COLUMN oldest_change timestamptz;
