-- Hourly statistics of real flights out of New York, January 2013, in event time.
--
-- The rows are out of order by most of a day; the watermark waits one day, so that none is late.
-- Kill it at any moment and run it again: it goes on from the last checkpoint and the result is the same.

SET 'pipeline.name' = 'flights-hourly';
SET 'execution.checkpointing.interval' = '1 s';
SET 'execution.checkpointing.dir' = 'out/checkpoints';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'execution.state-recovery.path' = 'latest';
SET 'table.dml-sync' = 'true';

CREATE TABLE flights (
  sched_dep  TIMESTAMP(3),
  dep        TIMESTAMP(3),
  dep_delay  DOUBLE,
  arr_delay  DOUBLE,
  carrier    STRING,
  flight     INT,
  tailnum    STRING,
  origin     STRING,
  dest       STRING,
  air_time   DOUBLE,
  distance   DOUBLE,
  WATERMARK FOR sched_dep AS sched_dep - INTERVAL '1' DAY
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/flights/flights-2013-01.csv',
  'format' = 'csv',
  'csv.ignore-first-line' = 'true',
  'source.rows-per-second' = '1800'
);

CREATE TABLE airports (
  faa   STRING,
  name  STRING,
  lat   DOUBLE,
  lon   DOUBLE,
  alt   DOUBLE,
  tz    DOUBLE,
  dst   STRING,
  tzone STRING
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/flights/airports.csv',
  'format' = 'csv',
  'csv.ignore-first-line' = 'true'
);

CREATE TABLE hourly (
  window_start TIMESTAMP(3),
  origin       STRING,
  airport      STRING,
  flights      BIGINT,
  cancelled    BIGINT,
  avg_delay    DOUBLE,
  worst_delay  DOUBLE,
  late_share   DOUBLE
) WITH (
  'connector' = 'filesystem',
  'path' = 'out/hourly/',
  'format' = 'json'
);

INSERT INTO hourly
SELECT h.window_start, h.origin, a.name, h.flights, h.cancelled, h.avg_delay, h.worst_delay,
       CAST(h.late AS DOUBLE) / NULLIF(h.flights - h.cancelled, 0)
FROM (
  SELECT window_start, origin,
         COUNT(*) AS flights,
         COUNT(*) FILTER (WHERE dep IS NULL) AS cancelled,
         AVG(dep_delay) AS avg_delay,
         MAX(dep_delay) AS worst_delay,
         COUNT(*) FILTER (WHERE dep_delay > 15) AS late
  FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR))
  GROUP BY window_start, window_end, origin
) AS h
JOIN airports AS a ON h.origin = a.faa;

-- The ten worst hours, read back from what was committed.
SELECT window_start, origin, flights, cancelled, ROUND(avg_delay, 1) AS avg_delay, worst_delay,
       ROUND(late_share, 2) AS late_share
FROM hourly
ORDER BY avg_delay DESC
LIMIT 10;
