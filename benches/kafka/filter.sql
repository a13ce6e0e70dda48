-- Kafka (json) → filter → Kafka: half of the records pass.
INSERT INTO copies SELECT auction, bidder, price, channel, url, `dateTime`, extra FROM bids WHERE MOD(auction, 2) = 0;
