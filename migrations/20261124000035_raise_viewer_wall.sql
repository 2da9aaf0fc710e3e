-- The second wall around a customer's rows. Who looks at an account as its customer does reads under the role
-- servant_viewer, to which row-level security shows the rows of that account and of no other, whatever the statement
-- asks for; the account is the setting app.account_id, and without it there are no rows. The role may read what is
-- granted here and write nothing. Credentials, keys and what people do are not granted.
--
-- Whoever owns the tables passes by row-level security, so that nothing changes for the programs; for other roles that
-- may have been granted the tables, the policy `everybody` leaves everything as it was.

CREATE FUNCTION viewed_account() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.account_id', true), '')::bigint;

-- Can be repeated: an administrator who has to make the role by hand calls it afterwards.
CREATE FUNCTION raise_viewer_wall() RETURNS void LANGUAGE plpgsql SET client_min_messages = warning AS $$
DECLARE
    wall record;
BEGIN
    -- OFFSET 0: each row's job is looked up, else the planner reads all jobs of the account once.
    FOR wall IN SELECT * FROM (VALUES
        -- Table, what of it may be read (empty: every column), and whose rows are seen (empty: every row).
        ('accounts', '', 'id = viewed_account()'),
        ('connections', '', 'account_id = viewed_account()'),
        ('schedules', '', 'account_id = viewed_account()'),
        ('jobs', '', 'account_id = viewed_account()'),
        ('finished_jobs', '', 'account_id = viewed_account()'),
        ('groups', '', 'account_id = viewed_account()'),
        ('streams', '', 'account_id = viewed_account()'),
        ('anomalies', '', 'account_id = viewed_account()'),
        ('attempts', '', 'EXISTS (SELECT FROM jobs j WHERE j.id = attempts.job_id OFFSET 0)
            OR EXISTS (SELECT FROM finished_jobs f WHERE f.id = attempts.job_id OFFSET 0)'),
        ('windows', 'id, stream_id, rows_seen, rows_expected, opened_at',
            'EXISTS (SELECT FROM streams s WHERE s.id = windows.stream_id)'),
        ('group_counts', '', 'EXISTS (SELECT FROM groups g WHERE g.id = group_counts.group_id)'),
        ('job_count_deltas', '', 'EXISTS (SELECT FROM groups g WHERE g.id = job_count_deltas.group_id)'),
        ('vendor_budgets', '', 'EXISTS (SELECT FROM connections c WHERE c.id = vendor_budgets.connection_id)'),
        ('vendor_budget_minutes', '',
            'EXISTS (SELECT FROM connections c WHERE c.id = vendor_budget_minutes.connection_id)'),
        ('budget_settings', '', 'connection_id = 0
            OR EXISTS (SELECT FROM connections c WHERE c.id = budget_settings.connection_id)'),
        ('connection_events', '', 'EXISTS (SELECT FROM connections c WHERE c.id = connection_events.connection_id)'),
        ('breakers', '',
            'EXISTS (SELECT FROM connections c WHERE coalesce(c.service, c.vendor) = breakers.service)'),
        ('pauses', '', 'CASE scope WHEN ''account'' THEN key = viewed_account()::text
            WHEN ''connection'' THEN EXISTS (SELECT FROM connections c WHERE c.id = pauses.key::bigint)
            WHEN ''group'' THEN EXISTS (SELECT FROM groups g WHERE g.id = pauses.key::bigint) ELSE true END'),
        ('limits', '', 'CASE scope WHEN ''account'' THEN key = viewed_account()::text
            WHEN ''connection'' THEN EXISTS (SELECT FROM connections c WHERE c.id = limits.key::bigint) ELSE true END'),
        ('limit_states', '', 'CASE scope WHEN ''account'' THEN key = viewed_account()::text
            WHEN ''connection'' THEN EXISTS (SELECT FROM connections c WHERE c.id = limit_states.key::bigint)
            ELSE true END'),
        ('leases', '', 'EXISTS (SELECT FROM jobs j WHERE j.id = ANY (leases.job_ids))'),
        ('dispatches', '', 'EXISTS (SELECT FROM jobs j WHERE j.id = ANY (dispatches.job_ids))'),
        ('permits', '', 'EXISTS (SELECT FROM jobs j WHERE j.id = ANY (permits.job_ids))'),
        -- Counts over all customers, and what operators did: readers find nothing there instead of a refusal.
        ('job_counts', '', 'false'),
        ('operator_acts', '', 'false'),
        ('audit', '', 'false'),
        ('kinds', '', ''),
        ('leader', 'only_row, until, window_per_slot, window_min, look_ahead_ms, unclaimed_secs, has_queue, breaker', ''),
        ('servants', 'id, kind, state, concurrency, running, seen_at', '')
    ) AS t (name, columns, rows) LOOP
        CONTINUE WHEN to_regclass(wall.name) IS NULL;
        EXECUTE format('GRANT SELECT %s ON %I TO servant_viewer',
                       CASE WHEN wall.columns <> '' THEN '(' || wall.columns || ')' ELSE '' END, wall.name);
        IF wall.rows <> '' THEN
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', wall.name);
            EXECUTE format('DROP POLICY IF EXISTS everybody ON %I', wall.name);
            EXECUTE format('DROP POLICY IF EXISTS viewer ON %I', wall.name);
            EXECUTE format('CREATE POLICY everybody ON %I USING (true) WITH CHECK (true)', wall.name);
            EXECUTE format('CREATE POLICY viewer ON %I AS RESTRICTIVE TO servant_viewer USING (%s)', wall.name, wall.rows);
        END IF;
    END LOOP;
    -- A view reads as whoever asks it, or it would be a door in the wall (PostgreSQL 15 and later; before, the role has
    -- no right to it).
    IF current_setting('server_version_num')::integer >= 150000 THEN
        EXECUTE 'ALTER VIEW pauses_in_force SET (security_invoker = true)';
        GRANT SELECT ON pauses_in_force TO servant_viewer;
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION raise_viewer_wall() FROM PUBLIC;

-- A role is of the whole cluster: another database's migration may make it at the same moment, and whoever migrates may
-- not be allowed to. Then everything but looking at accounts works, and that says what is missing.
DO $$
BEGIN
    IF to_regrole('servant_viewer') IS NULL THEN
        BEGIN
            CREATE ROLE servant_viewer NOLOGIN NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    IF NOT pg_has_role(current_user, 'servant_viewer', 'MEMBER') THEN
        BEGIN
            GRANT servant_viewer TO CURRENT_USER;
        EXCEPTION WHEN unique_violation OR internal_error THEN
            NULL;
        END;
    END IF;
    PERFORM raise_viewer_wall();
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'accounts cannot be assumed: %; an administrator runs CREATE ROLE servant_viewer NOLOGIN and GRANT '
        'servant_viewer TO %, then the owner of the tables runs SELECT raise_viewer_wall()', SQLERRM, current_user;
END
$$;
