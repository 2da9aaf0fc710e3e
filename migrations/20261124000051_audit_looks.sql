-- Each page that was looked at as a customer, and each look whose time ran out, is in the audit as well: with the role that
-- whoever began the look had then (NULL: begun by an older manager), and with an outcome of its own.
ALTER TABLE assumptions ADD COLUMN principal_role text;

-- What is there already was let in by the narrower rule: it is not read through again while the table is locked.
ALTER TABLE audit
    DROP CONSTRAINT audit_outcome_check,
    ADD CONSTRAINT audit_outcome_check CHECK (outcome IN ('done', 'denied', 'failed', 'lapsed')) NOT VALID;
