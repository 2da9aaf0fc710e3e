-- Where there is no queue, servants take jobs that nothing limits straight from the table. All that limits an account's
-- jobs of a kind that have no connection; a row means that they are the dispatcher's.
CREATE FUNCTION is_limited(of_kind text, of_vendor text, of_account bigint) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (
    SELECT FROM limits
    WHERE (scope = 'kind' AND key = of_kind) OR (scope = 'vendor' AND key = of_vendor)
       OR (scope = 'account' AND key = of_account::text) OR (scope = 'each_account' AND key = '' AND of_account <> 0)
);

-- Whether the leading scheduler has a queue to dispatch to; without one it dispatches what is limited, to the outbox.
ALTER TABLE leader ADD COLUMN has_queue boolean NOT NULL DEFAULT false;
