-- The list of a kind's due jobs has an index of its own, which no claim and no dispatch can take for theirs: neither its
-- first column nor its condition is what they ask for. While statistics say that there are no jobs, as after a vacuum
-- between two floods, any index costs the same to the planner, and its choice stays until the statistics change.
CREATE INDEX jobs_due_list_idx ON jobs ((kind COLLATE "C"), id) WHERE ready_at > '-infinity';
DROP INDEX jobs_due_of_kind_idx;
