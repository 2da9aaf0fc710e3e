-- Who may ask the manager: people and their sessions, programs and their tokens, servants and their credentials. Of every
-- secret only the SHA-256 is here (they have 256 bits each, so nobody finds them by trying); of passwords argon2id.

CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What people read; who has a password signs in with it.
    name text NOT NULL,
    email text NOT NULL DEFAULT '',
    role text NOT NULL CHECK (role IN ('viewer', 'support', 'operator', 'admin')),
    -- Who a provider (OpenID Connect) vouches for is known by these two, and by nothing else.
    issuer text,
    subject text,
    -- In PHC form; NULL: there is none, and none is accepted.
    password text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    signed_in_at timestamptz,
    disabled_at timestamptz,
    CHECK ((issuer IS NULL) = (subject IS NULL)),
    CHECK (issuer IS NULL OR password IS NULL)
);
CREATE UNIQUE INDEX users_name_idx ON users (lower(name)) WHERE issuer IS NULL;
CREATE UNIQUE INDEX users_subject_idx ON users (issuer, subject) WHERE issuer IS NOT NULL;

CREATE TABLE sessions (
    digest bytea PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    -- The last act, to the minute.
    seen_at timestamptz NOT NULL,
    -- When it ends, whatever happens.
    ends_at timestamptz NOT NULL,
    ip text,
    agent text NOT NULL
);
CREATE INDEX sessions_user_idx ON sessions (user_id);
CREATE INDEX sessions_ends_idx ON sessions (ends_at);

CREATE TABLE api_tokens (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('viewer', 'support', 'operator', 'admin')),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    -- To the minute.
    used_at timestamptz,
    revoked_at timestamptz
);

-- What a new user, or one who lost the password, is sent once.
CREATE TABLE one_time_codes (
    digest bytea PRIMARY KEY,
    -- NULL: whoever has it becomes a user, with that role.
    user_id bigint REFERENCES users ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('viewer', 'support', 'operator', 'admin')),
    -- Whether a password is set with it, or it signs in as it is.
    sets_password boolean NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX one_time_codes_user_idx ON one_time_codes (user_id);
CREATE INDEX one_time_codes_expires_idx ON one_time_codes (expires_at);

-- Ways to a provider and back, each once: the digest of the state of those that came back, until they are too old anyway.
CREATE TABLE returned_sign_ins (
    state_digest bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX returned_sign_ins_expires_idx ON returned_sign_ins (expires_at);

-- Addresses at which a customer, who is nobody here, may begin to authorise a connection.
CREATE TABLE consent_links (
    digest bytea PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts ON DELETE CASCADE,
    connection_id bigint,
    created_by text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX consent_links_expires_idx ON consent_links (expires_at);

CREATE TABLE servant_credentials (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    -- The one kind whose servants may use it.
    kind text NOT NULL,
    -- The one host that they run on; NULL: any.
    host text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    -- To the minute.
    used_at timestamptz,
    revoked_at timestamptz
);

-- Whose row it is: the credential and the process's own secret that came with its first heartbeat.
ALTER TABLE servants
    ADD COLUMN credential_id bigint,
    ADD COLUMN boot_digest bytea;
