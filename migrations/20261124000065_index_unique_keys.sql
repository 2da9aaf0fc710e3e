-- Keys whose period is over are dropped some at a time, the oldest first.
CREATE INDEX unique_keys_until_idx ON unique_keys (until);
