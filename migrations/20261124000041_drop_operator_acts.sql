-- What operators did is in `audit`, into which this table was copied when that was made. Nothing has written or read it
-- since the release that brought `audit`.

DROP TABLE operator_acts;
