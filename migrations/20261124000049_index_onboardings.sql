-- Groups that jobs of one kind make, as onboardings are: those that go on, newest first, and those that ended, the latest
-- first, however many others there are.
CREATE INDEX groups_going_on_idx ON groups (created_by, id) WHERE state IN ('open', 'sealed', 'cancelling');
CREATE INDEX groups_ended_idx ON groups (created_by, state_since) WHERE state IN ('finished', 'failed', 'cancelled');
