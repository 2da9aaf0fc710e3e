-- Windows that the vendor cannot collect in time are read in parts, one after the other.

ALTER TABLE windows
    -- Where the whole ends of which this window is a part; NULL: it is whole.
    ADD COLUMN goal timestamptz,
    -- Records that are believed to lie between its own end and that.
    ADD COLUMN goal_rows bigint NOT NULL DEFAULT 0;
