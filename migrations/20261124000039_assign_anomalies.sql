-- Whose an anomaly is to look after; NULL: nobody's yet. It stays whatever becomes of the anomaly's state.
ALTER TABLE anomalies ADD COLUMN assigned_to text;
