-- Accounts are found by any word of their names: by the name from there on, in small letters; of the first 16 words, and of
-- each 100 characters. Kept by a trigger, so that programs of any version keep it, and by the owner's right: who may enter
-- an account needs no other.
CREATE TABLE account_words (
    words text COLLATE "C" NOT NULL,
    account_id bigint NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    PRIMARY KEY (words, account_id)
);
CREATE INDEX account_words_account_idx ON account_words (account_id);

CREATE FUNCTION words_of_name(name text) RETURNS SETOF text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(substr(lower(name), place), 100) FROM generate_series(1, least(length(name), 500)) AS place
    WHERE substr(' ' || lower(name), place, 2) ~ '^[^[:alnum:]][[:alnum:]]' ORDER BY place LIMIT 16
$$;

CREATE FUNCTION keep_account_words() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM account_words WHERE account_id = NEW.id;
    END IF;
    INSERT INTO account_words (words, account_id) SELECT DISTINCT words, NEW.id FROM words_of_name(NEW.name) AS words;
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_words AFTER INSERT OR UPDATE OF name ON accounts
FOR EACH ROW WHEN (NEW.id <> 0) EXECUTE FUNCTION keep_account_words();

INSERT INTO account_words (words, account_id)
SELECT DISTINCT words, id FROM accounts CROSS JOIN LATERAL words_of_name(name) AS words WHERE id <> 0;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'servant_app') THEN
        GRANT SELECT ON account_words TO servant_app;
    END IF;
END $$;
