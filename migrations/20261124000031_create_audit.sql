-- What anybody did, was denied or failed at: who, for whom, with what, from what to what, why, from where. Rows are
-- written in the transaction of the deed, never changed and never dropped (they are what people do, not what jobs do:
-- few enough for one table without partitions), and chained one to the next, so that an edit shows.
-- `operator_acts` is copied and not written any more; it goes with the next release's migrations. An older manager that
-- still runs writes it for a while: what it writes there from now on is not in the audit.

CREATE SEQUENCE audit_seq;

CREATE TABLE audit (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    -- user, token, servant, system or open (nobody is asked who they are).
    actor_kind text NOT NULL,
    -- The row of users, tokens or servants.
    actor_id text NOT NULL,
    -- The name that people read.
    actor text NOT NULL,
    role text NOT NULL,
    -- The account that was looked at as its customer does.
    on_behalf_of bigint,
    -- domain::Action.
    action text NOT NULL,
    -- With what: job, pause, servant, schedule, limit, budget, account, connection, breaker, anomaly, group, operation
    -- or queue; of what was denied or failed, request.
    subject text NOT NULL,
    -- With which one: an id; of a pause or a limit, its scope and, after a space, its key; of a request, its address.
    key text NOT NULL,
    -- Only what changed. Secrets are in neither, and of a payload there is a digest.
    before jsonb,
    after jsonb,
    reason text NOT NULL,
    request_id uuid,
    ip text,
    agent text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('done', 'denied', 'failed')),
    -- Of all the columns above.
    row_hash bytea NOT NULL,
    -- Of the row before and of this one; NULL until the leading scheduler has sealed it.
    chain_hash bytea
) WITH (fillfactor = 85);

CREATE INDEX audit_subject_idx ON audit (subject, key, seq);
CREATE INDEX audit_actor_idx ON audit (actor, seq);
CREATE INDEX audit_action_idx ON audit (action, seq);
CREATE INDEX audit_account_idx ON audit (on_behalf_of, seq) WHERE on_behalf_of IS NOT NULL;
CREATE INDEX audit_at_idx ON audit (at, seq);

-- Each column as text with its length before it, so that no two rows read the same. `store::verify_audit` does the same.
CREATE FUNCTION audit_row_hash(a audit) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to(string_agg(
        coalesce(octet_length(convert_to(field, 'UTF8'))::text || ':' || field, '-'), '' ORDER BY place), 'UTF8'))
    FROM unnest(ARRAY[
        a.seq::text, (extract(epoch FROM a.at) * 1000000)::bigint::text, a.actor_kind, a.actor_id, a.actor, a.role,
        a.on_behalf_of::text, a.action, a.subject, a.key, a.before::text, a.after::text, a.reason, a.request_id::text,
        a.ip, a.agent, a.outcome
    ]) WITH ORDINALITY AS fields (field, place)
$$;

CREATE FUNCTION stamp_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The transaction's id is there before the row's number is taken: whoever has taken a number is among the
    -- transactions that the sealer waits for.
    PERFORM pg_current_xact_id();
    NEW.seq := nextval('audit_seq');
    NEW.chain_hash := NULL;
    NEW.row_hash := audit_row_hash(NEW);
    RETURN NEW;
END $$;

CREATE FUNCTION guard_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unsealed audit;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        unsealed := NEW;
        unsealed.chain_hash := NULL;
        IF NEW.chain_hash IS NOT NULL AND unsealed IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit is only appended to' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_stamp BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION stamp_audit();
CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION guard_audit();
CREATE TRIGGER audit_keep BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION guard_audit();

-- How far the chain reaches, and how far it may be drawn next: when every transaction below `horizon` has ended, each row
-- up to `upto` is there to be seen, or never will be.
CREATE TABLE audit_seals (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    head_seq bigint NOT NULL,
    head_hash bytea NOT NULL,
    upto bigint NOT NULL,
    horizon xid8 NOT NULL,
    -- When the head was last told to the log.
    told_at timestamptz NOT NULL
) WITH (fillfactor = 50);
INSERT INTO audit_seals (head_seq, head_hash, upto, horizon, told_at)
VALUES (0, decode(repeat('00', 32), 'hex'), 0, '0', 'epoch');

-- By the owner's right: who may append and read needs no right to update.
CREATE FUNCTION seal_audit_rows(seqs bigint[], hashes bytea[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    WITH sealed AS (
        UPDATE audit SET chain_hash = t.hash FROM unnest(seqs, hashes) AS t (seq, hash)
        WHERE audit.seq = t.seq AND audit.chain_hash IS NULL
        RETURNING audit.seq
    )
    SELECT count(*) FROM sealed
$$;
REVOKE ALL ON FUNCTION seal_audit_rows(bigint[], bytea[]) FROM PUBLIC;

-- What an application's own role inherits: to append and to read. Roles are the whole cluster's: another database's
-- migration may have made it, or makes it right now; who may make none goes without.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'servant_app') THEN
        CREATE ROLE servant_app NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END $$;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'servant_app') THEN
        REVOKE ALL ON audit, audit_seals FROM servant_app;
        GRANT SELECT, INSERT ON audit TO servant_app;
        GRANT USAGE, SELECT ON SEQUENCE audit_seq TO servant_app;
        GRANT SELECT, UPDATE ON audit_seals TO servant_app;
        GRANT EXECUTE ON FUNCTION seal_audit_rows(bigint[], bytea[]) TO servant_app;
    END IF;
END $$;

-- On whose behalf the leading scheduler carries an operation out, as it was when it was ordered; NULL: ordered by an
-- older manager.
ALTER TABLE operations ADD COLUMN principal jsonb;

INSERT INTO audit (at, actor_kind, actor_id, actor, role, action, subject, key, after, reason, agent, outcome)
SELECT at, 'open', 'open', by, 'admin',
       CASE subject || ' ' || what
           WHEN 'job cancelled' THEN 'cancel_job' WHEN 'job retried' THEN 'retry_job' WHEN 'job run_now' THEN 'run_job_now'
           WHEN 'pause paused' THEN 'pause' WHEN 'pause resumed' THEN 'resume'
           WHEN 'schedule paused' THEN 'pause_schedule' WHEN 'schedule resumed' THEN 'resume_schedule'
           WHEN 'limit set' THEN 'set_limit' WHEN 'limit removed' THEN 'remove_limit'
           WHEN 'budget set' THEN 'set_share' WHEN 'budget reset' THEN 'remove_share'
           ELSE CASE subject WHEN 'servant' THEN 'order_servant' WHEN 'account' THEN 'set_weight' ELSE what END
       END,
       subject, key, CASE subject WHEN 'servant' THEN jsonb_build_object('ordered', what)
                                  WHEN 'account' THEN jsonb_build_object('weight', split_part(what, ' ', 2)) END,
       reason, '', 'done'
FROM operator_acts ORDER BY id;
