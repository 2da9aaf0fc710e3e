-- Accounts are found by how their names begin, whatever the case: in the order of bytes, so that the index serves whatever
-- the database's own order is.
CREATE INDEX accounts_name_idx ON accounts (lower(name) text_pattern_ops, id);
