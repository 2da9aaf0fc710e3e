-- The list of a kind's due jobs has an index of its own, which no claim and no dispatch can take for theirs: its first
-- column is not the kind as they ask for it. While statistics say that there are no jobs, as a vacuum between two floods
-- does, any index by kind costs the same to the planner, and its choice stays until the statistics change.
CREATE INDEX jobs_due_list_idx ON jobs ((kind COLLATE "C"), id) WHERE ready_at IS NOT NULL;
DROP INDEX jobs_due_of_kind_idx;
