-- What the vendor cannot collect in time, and bears one stamp or none, is read in parts by the records' ids. What wrote
-- windows before knows of no such parts: it reads all ids of one, which is more than it needs and nothing less.
ALTER TABLE windows
    -- From this id on; NULL: from the first.
    ADD COLUMN ids_from text COLLATE "C",
    -- Until before this one; NULL: to the last. It goes on with the ids from there before it goes on in time.
    ADD COLUMN ids_until text COLLATE "C";
