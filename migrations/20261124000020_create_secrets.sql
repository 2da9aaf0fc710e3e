-- Customers' credentials, sealed: they open only with a master key, which is never in the database.

-- Data keys, each wrapped by a master key. An account whose keys are deleted has no secrets any more, in no backup either.
CREATE TABLE account_keys (
    account_id bigint NOT NULL REFERENCES accounts (id),
    -- New secrets are sealed by the greatest.
    version integer NOT NULL CHECK (version > 0),
    -- file:<number> or kms:<arn>
    master text NOT NULL,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL,
    wrapped_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, version)
);

-- What a connection signs on with, and the session of its last sign-on. Connections whose credentials lie in a file have
-- no row.
CREATE TABLE secrets (
    connection_id bigint PRIMARY KEY REFERENCES connections (id),
    account_id bigint NOT NULL REFERENCES accounts (id),
    -- Both sealed values are sealed by this version of the account's keys.
    key_version integer NOT NULL,
    -- What the customer granted, as a refresh token. NULL: sessions are had without.
    credential bytea,
    session bytea,
    -- Counts the sessions: tells one that others have renewed already from one that nobody has.
    generation bigint NOT NULL DEFAULT 0,
    signed_on_at timestamptz,
    -- Whoever signs on now, and until when it is thought to be alive.
    signing_on uuid,
    signing_on_until timestamptz,
    -- The last sign-on failed for the vendor's or the network's sake: nobody tries before.
    retry_at timestamptz,
    failure text,
    -- When the customer last agreed.
    authorised_at timestamptz NOT NULL,
    FOREIGN KEY (account_id, key_version) REFERENCES account_keys (account_id, version),
    CHECK ((session IS NULL) = (signed_on_at IS NULL)),
    CHECK ((signing_on IS NULL) = (signing_on_until IS NULL)),
    CHECK ((retry_at IS NULL) = (failure IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX secrets_key_idx ON secrets (account_id, key_version);

-- Authorisations that a browser has begun and not finished. A row is good once and for minutes. What the address that
-- comes back must show, and what the browser must show beside it, are here as digests only.
CREATE TABLE authorisations (
    -- SHA-256 of the state.
    state_digest bytea PRIMARY KEY,
    -- SHA-256 of the PKCE verifier, which is the browser's cookie.
    verifier_digest bytea NOT NULL,
    account_id bigint NOT NULL REFERENCES accounts (id),
    vendor text NOT NULL,
    -- The connection to be authorised again; NULL: a new one.
    connection_id bigint REFERENCES connections (id),
    expires_at timestamptz NOT NULL
);

CREATE INDEX authorisations_expires_idx ON authorisations (expires_at);
-- The same organisation is not connected twice.
CREATE INDEX connections_organisation_idx ON connections (account_id, vendor, (settings ->> 'organisation'))
    WHERE settings ? 'organisation';
