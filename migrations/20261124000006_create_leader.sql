-- Which scheduler leads. The term rises with each change of leader; every write of a leader checks it.

CREATE TABLE leader (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    term bigint NOT NULL,
    holder text NOT NULL,
    until timestamptz NOT NULL
);

INSERT INTO leader (term, holder, until) VALUES (0, 'nobody', '-infinity');
