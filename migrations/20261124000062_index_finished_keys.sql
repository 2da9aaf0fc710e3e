-- Finished jobs are found by the unique key that they had. Most jobs have none, and cost nothing here.
CREATE INDEX finished_jobs_key_idx ON finished_jobs (unique_key, id) WHERE unique_key IS NOT NULL;
