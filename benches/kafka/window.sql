-- Kafka (json) → count and best price per auction and ten seconds of event time → blackhole.
INSERT INTO counts SELECT window_start, auction, COUNT(*), MAX(price)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, auction;
