-- Back-off beyond one job: connections that wait for a person, services that are down.

-- Which service a connection works on, as the host of the customer's instance: connections of one service share its
-- breaker. NULL: the vendor's name is the service.
ALTER TABLE connections ADD COLUMN service text;

CREATE INDEX connections_service_idx ON connections (coalesce(service, vendor));
CREATE INDEX connections_state_idx ON connections (state, id);

-- A service's circuit breaker, as `domain::Breaker` has it. A row exists once an outcome of the service was seen.
CREATE TABLE breakers (
    service text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('closed', 'open', 'half_open', 'recovering')),
    since timestamptz NOT NULL,
    reason text NOT NULL,
    openings integer NOT NULL,
    counts_from timestamptz NOT NULL,
    -- open: the earliest probe; half_open: when the latest was sent; recovering: when the room last grew by itself.
    state_at timestamptz,
    -- recovering: jobs at a time.
    room integer,
    window_since timestamptz NOT NULL,
    newer_succeeded integer NOT NULL,
    newer_failed integer NOT NULL,
    older_succeeded integer NOT NULL,
    older_failed integer NOT NULL,
    -- What an operator holds it at.
    forced text CHECK (forced IN ('open', 'closed')),
    forced_by text,
    forced_reason text,
    forced_at timestamptz,
    CHECK ((forced IS NULL) = (forced_by IS NULL) AND (forced IS NULL) = (forced_reason IS NULL)
           AND (forced IS NULL) = (forced_at IS NULL)),
    CHECK ((state = 'closed') = (state_at IS NULL) AND (state = 'recovering') = (room IS NOT NULL))
) WITH (fillfactor = 50);

-- Almost always empty: what has to be looked at although nothing happens.
CREATE INDEX breakers_unsettled_idx ON breakers (service) WHERE state <> 'closed';

-- How attempts on connections ended, appended by the statement that ends them, a row for each connection in it; the
-- leading scheduler folds them into breakers and deletes them.
CREATE TABLE connection_outcomes (
    connection_id bigint NOT NULL,
    -- When the latest of these attempts began.
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    succeeded integer NOT NULL,
    failed integer NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- What happened to connections and to breakers, who did it and why.
CREATE TABLE connection_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- One of the two.
    connection_id bigint,
    service text,
    what text NOT NULL,
    -- A person; or 'servant' or 'scheduler', when it happened by itself.
    by text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    CHECK ((connection_id IS NULL) <> (service IS NULL))
);

CREATE INDEX connection_events_connection_idx ON connection_events (connection_id, id) WHERE connection_id IS NOT NULL;
CREATE INDEX connection_events_service_idx ON connection_events (service, id) WHERE service IS NOT NULL;
CREATE INDEX connection_events_at_idx ON connection_events (at);

-- Connections whose jobs nobody may start: `NOT EXISTS (SELECT FROM held_connections h WHERE h.id = …)` is a look into
-- two indexes for each job. Their number has no bound, so they are no array.
CREATE VIEW held_connections AS
SELECT c.id FROM connections c
WHERE c.state <> 'active'
   OR EXISTS (SELECT FROM breakers b
              WHERE b.service = coalesce(c.service, c.vendor)
                AND (b.forced = 'open' OR (b.state = 'open' AND b.forced IS NULL)));
