-- Unusual numbers of deletes are an anomaly of their own from now on: what was said of them among the volumes is over.
UPDATE anomalies
SET state = 'resolved', state_by = 'servant', state_since = now(),
    state_reason = 'deletes are told by themselves, as deletes_unusual'
WHERE kind = 'volume_unusual' AND subject = 'deletes' AND state IN ('open', 'acknowledged');
