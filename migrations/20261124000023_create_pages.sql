-- Windows that are read in bulk: the vendor's job, and its pages, each a unit of work that any servant may take.

ALTER TABLE windows
    ADD COLUMN kind text NOT NULL DEFAULT 'rest' CHECK (kind IN ('rest', 'bulk')),
    -- The vendor's job, and the version of its API that its results are asked for with; NULL: not made yet.
    ADD COLUMN external_job_id text,
    ADD COLUMN api_version text,
    -- The fields that it was asked for, with their types as they were described then: [["Id", "id"], …].
    ADD COLUMN fields jsonb,
    -- Counts the window's beginnings: what was begun before the last of them writes nothing.
    ADD COLUMN fence integer NOT NULL DEFAULT 0,
    -- Beginnings that came to nothing, since somebody last gave it up.
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    -- It was given up, and is not begun again before.
    ADD COLUMN retry_at timestamptz,
    -- How many pages there are; NULL: not known before the last.
    ADD COLUMN pages_expected integer,
    -- The job that has the vendor collect it.
    ADD COLUMN job_id bigint;

-- A page's rows are in the records if, and only if, it is committed.
CREATE TABLE pages (
    window_id bigint NOT NULL REFERENCES windows (id) ON DELETE CASCADE,
    seq integer NOT NULL,
    -- Where it is, as the vendor says.
    locator text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'committed')),
    rows bigint,
    bytes bigint,
    committed_at timestamptz,
    -- The job that takes it.
    job_id bigint NOT NULL,
    UNIQUE (window_id, seq)
) WITH (fillfactor = 70);

ALTER TABLE streams
    -- The vendor's bulk interface does not have the object.
    ADD COLUMN is_rest_only boolean NOT NULL DEFAULT false;
