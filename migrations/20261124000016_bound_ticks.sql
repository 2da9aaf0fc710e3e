-- What keeps a tick short, however many schedules and accounts there are.

-- A due schedule whose connection is not active is not looked at again before this, instead of with every tick.
ALTER TABLE schedules ADD COLUMN held_until timestamptz;

DROP INDEX schedules_due_idx;
CREATE INDEX schedules_due_idx ON schedules ((greatest(next_due_at, held_until)))
    WHERE next_due_at IS NOT NULL AND paused_by IS NULL;

-- How far accounts (or connections) have been walked through, in the order of their making: `accounts_until` and this id.
ALTER TABLE schedule_declarations
    ADD COLUMN walked_id bigint NOT NULL DEFAULT 0,
    -- When the walk last went back to those whose transactions may have been open when it passed.
    ADD COLUMN went_back_at timestamptz NOT NULL DEFAULT '-infinity';

DROP INDEX accounts_created_idx;
CREATE INDEX accounts_created_idx ON accounts (created_at, id);
CREATE INDEX connections_created_idx ON connections (vendor, created_at, id);
