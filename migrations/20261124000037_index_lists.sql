-- What pages list by, so that none reads many rows to show few, however rare the wanted ones are.

-- Anomalies of a state and a severity, and of a severity.
CREATE INDEX anomalies_severity_idx ON anomalies (severity, id);
CREATE INDEX anomalies_grave_idx ON anomalies (state, severity, id);

-- Groups of errors of a class, and of a kind (class by class).
CREATE INDEX error_groups_class_idx ON error_groups (class, last_seen_at, fingerprint);
CREATE INDEX error_groups_kind_idx ON error_groups (kind, class, last_seen_at, fingerprint);

-- Breakers that somebody has to know of: almost always none.
CREATE INDEX breakers_troubled_idx ON breakers (service) WHERE state <> 'closed' OR forced IS NOT NULL;
