-- What operators did by hand, who and why: appended in the transaction of the deed, forgotten when finished jobs are.
-- (What happened to connections and breakers, by hand or by itself, is in `connection_events`.)

CREATE TABLE operator_acts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- job, pause, servant, schedule, limit, budget or account.
    subject text NOT NULL,
    -- Which one: an id; of a pause or a limit, its scope and, after a space, its key.
    key text NOT NULL,
    what text NOT NULL,
    by text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL
);

-- What was done with one thing, the latest first; whoever dispatches asks so when a pause was lifted.
CREATE INDEX operator_acts_subject_idx ON operator_acts (subject, key, id);
CREATE INDEX operator_acts_at_idx ON operator_acts (at);
