-- A table of 400 000 rows with 200 bytes each (about 90 MiB of pages in memory), written in scattered order and then read
-- at random by key. The pages of the B-tree, which the page cache allocates one by one from one place in the library,
-- must be the heap object on top.
PRAGMA page_size = 4096;
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT);
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 399999)
INSERT INTO account SELECT (i * 7919) % 400009, printf('%0200d', i) FROM n;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1999999)
SELECT sum(length(owner)) FROM n JOIN account ON account.id = (i * 104729) % 400009;
SELECT count(*) FROM account;
