-- Kafka (json) → blackhole: every field of every record is decoded.
INSERT INTO nothing SELECT auction, bidder, price, channel, url, `dateTime`, extra FROM bids;
