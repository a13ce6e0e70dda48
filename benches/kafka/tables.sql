-- Bids of the auction benchmark as JSON in Kafka; {…} is replaced by the benchmark.
CREATE TABLE bids (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND)
WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}', 'properties.group.id' = 'bench',
  'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json');
CREATE TABLE copies (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING)
WITH ('connector' = 'kafka', 'topic' = '{topic}-out', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json');
CREATE TABLE counts (window_start TIMESTAMP(3), auction BIGINT, bids BIGINT, best BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE nothing (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING)
WITH ('connector' = 'blackhole');
