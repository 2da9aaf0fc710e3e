-- What an operator holds back is shown first of all: the latest paused schedules, however many others there are.
CREATE INDEX schedules_paused_idx ON schedules (paused_at) WHERE paused_at IS NOT NULL;
