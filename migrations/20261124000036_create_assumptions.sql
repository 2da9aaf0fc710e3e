-- Who looked at which account as its customer does, why, and at what. One row for each beginning; what was looked at is
-- only ever appended.

CREATE TABLE assumptions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Who: the kind of principal, its row and its name then.
    principal_kind text NOT NULL,
    principal_id text NOT NULL,
    principal_name text NOT NULL,
    account_id bigint NOT NULL REFERENCES accounts (id),
    reason text NOT NULL,
    ticket text NOT NULL,
    -- SHA-256 of what the browser's cookie holds.
    token_digest bytea NOT NULL UNIQUE,
    started_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    -- NULL: not before its time.
    ended_at timestamptz,
    CHECK (account_id <> 0),
    CHECK (ends_at > started_at AND ends_at <= started_at + interval '30 minutes'),
    CHECK (ended_at IS NULL OR ended_at <= ends_at)
) WITH (fillfactor = 80);

CREATE INDEX assumptions_account_idx ON assumptions (account_id, id);
CREATE INDEX assumptions_open_idx ON assumptions (ends_at) WHERE ended_at IS NULL;

CREATE TABLE assumption_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    assumption_id bigint NOT NULL REFERENCES assumptions (id),
    what text NOT NULL CHECK (what IN ('started', 'looked', 'refused', 'ended', 'expired')),
    -- The method and the address.
    at_what text NOT NULL,
    at timestamptz NOT NULL
);

CREATE INDEX assumption_events_assumption_idx ON assumption_events (assumption_id, id);

CREATE FUNCTION refuse_change_of_assumption_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'assumption_events is only appended to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER assumption_events_are_appended BEFORE UPDATE OR DELETE OR TRUNCATE ON assumption_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_assumption_events();
