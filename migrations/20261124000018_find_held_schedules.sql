-- The schedules that a connection's state holds: they are due again at once when it is in use again, however many others
-- there are. Every write of held_until already moves the row in schedules_due_idx.
CREATE INDEX schedules_held_idx ON schedules (connection_id) WHERE held_until IS NOT NULL;
