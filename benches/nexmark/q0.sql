CREATE TABLE sink_q0 (auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING) WITH ('connector' = 'blackhole');

INSERT INTO sink_q0
SELECT auction, bidder, price, `dateTime`, extra FROM bid;
