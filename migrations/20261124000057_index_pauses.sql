-- The list of pauses goes by when they began, page after page.
CREATE INDEX pauses_latest_idx ON pauses (paused_at, scope, key);
