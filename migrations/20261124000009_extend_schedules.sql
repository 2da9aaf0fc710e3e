-- Schedules' policies, and which accounts have those that are declared for every account.

ALTER TABLE schedules
    -- While a job of the schedule is unfinished.
    ADD COLUMN overlap text NOT NULL DEFAULT 'skip' CHECK (overlap IN ('skip', 'buffer_one', 'cancel_older', 'allow')),
    ADD COLUMN jitter_secs integer NOT NULL DEFAULT 0,
    ADD COLUMN starts_at timestamptz,
    ADD COLUMN ends_at timestamptz,
    ADD COLUMN catch_up_secs integer NOT NULL DEFAULT 86400,
    ADD COLUMN catch_up_max smallint NOT NULL DEFAULT 1,
    -- The fire that waits for the unfinished job (buffer_one).
    ADD COLUMN buffered_due_at timestamptz,
    -- Due times that passed and were not made good.
    ADD COLUMN dropped_fires bigint NOT NULL DEFAULT 0,
    ADD COLUMN declared boolean NOT NULL DEFAULT false,
    ADD COLUMN paused_at timestamptz;

CREATE INDEX schedules_buffered_idx ON schedules (buffered_due_at) WHERE buffered_due_at IS NOT NULL;

-- Accounts made before `accounts_until` were looked at and have theirs.
CREATE TABLE schedule_declarations (
    name text PRIMARY KEY,
    accounts_until timestamptz NOT NULL
);

CREATE INDEX accounts_created_idx ON accounts (created_at);

-- The due time of the fire that made the job. `due_at` moves with retries, and many jobs of one schedule may wait for the
-- same instant; the fire stays what it was.
ALTER TABLE jobs ADD COLUMN fire_due_at timestamptz;
DROP INDEX jobs_schedule_fire;
CREATE UNIQUE INDEX jobs_schedule_fire ON jobs (schedule_id, fire_due_at) WHERE schedule_id IS NOT NULL;
